//! Calls through the layer: every end is counted once, with its code.

use super::*;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

const LAUNCH: &str = "/nube.v1.InstanceService/LaunchInstances";

/// How often a method ended with a code in this process.
fn count(path: &str, code: &'static str) -> u64 {
    let labels = [("method", methods::of(path).name), ("code", code)];
    events().rpcs.get_or_create(&labels).get()
}

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

fn trailers(code: &'static str) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    map.insert(STATUS, http::HeaderValue::from_static(code));
    Frame::trailers(map)
}

/// Calls a service that answers with these headers and frames.
async fn call(
    path: &str,
    header: Option<&'static str>,
    frames: Frames,
) -> Response<Watched<impl Body<Data = Bytes, Error = Infallible> + Unpin>> {
    let inner = tower::service_fn(move |_: Request<()>| {
        let body = StreamBody::new(futures::stream::iter(frames.clone_frames()));
        let mut response = Response::new(body);
        if let Some(code) = header {
            let value = http::HeaderValue::from_static(code);
            response.headers_mut().insert(STATUS, value);
        }
        async move { Ok::<_, Infallible>(response) }
    });
    let request = Request::builder().uri(path).body(()).expect("a request");
    let answer = Observe.layer(inner).call(request).await;
    answer.expect("infallible")
}

/// Frames cannot be cloned whole.
trait CloneFrames {
    fn clone_frames(&self) -> Frames;
}

impl CloneFrames for Frames {
    fn clone_frames(&self) -> Frames {
        let clone = |frame: &Result<Frame<Bytes>, Infallible>| {
            let frame = frame.as_ref().expect("infallible");
            Ok(match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => Frame::data(data.clone()),
                (None, Some(map)) => Frame::trailers(map.clone()),
                (None, None) => Frame::data(Bytes::new()),
            })
        };
        self.iter().map(clone).collect()
    }
}

#[tokio::test]
async fn every_end_is_counted_once_with_its_code() {
    let data = || Ok(Frame::data(Bytes::from_static(b"x")));
    // Each case has a method of its own: other tests count as well.
    let path = "/nube.v1.BillingService/GetBill";
    let before = count(path, "OK");
    let response = call(path, None, vec![data(), Ok(trailers("0"))]).await;
    assert_eq!(count(path, "OK"), before, "not before its end");
    response.into_body().collect().await.expect("a body");
    assert_eq!(count(path, "OK"), before + 1);

    let path = "/nube.v1.NodeService/DrainNode";
    let before = count(path, "NOT_FOUND");
    drop(call(path, Some("5"), vec![]).await);
    assert_eq!(count(path, "NOT_FOUND"), before + 1);
    assert_eq!(count(path, "CANCELLED"), 0);

    let path = "/nube.v1.NodeService/UncordonNode";
    drop(call(path, None, vec![data()]).await);
    assert_eq!(count(path, "CANCELLED"), 1);

    let path = "/nube.v1.NodeService/SetNodeLabels";
    let cut = call(path, None, vec![data()]).await;
    cut.into_body().collect().await.expect("a body");
    assert_eq!(count(path, "UNKNOWN"), 1);

    for path in ["/a/b", "/c\u{e9}/d", "/nube.v1.InstanceService/Nonsense"] {
        let path = path.escape_default().to_string().replace('\\', "");
        drop(call(&path, Some("12"), vec![]).await);
    }
    assert_eq!(count("/x/y", "UNIMPLEMENTED"), 3);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn a_mutation_is_one_line_with_its_fields_and_a_read_is_none() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(lines.clone())
        .with_max_level(tracing::Level::INFO)
        .finish();
    let inner = tower::service_fn(|_: Request<()>| {
        caller("operator/eve\n\u{1b}[31m\"");
        request(nube_types::RequestId([7; 16]));
        let mut response = Response::new(http_body_util::Empty::<Bytes>::new());
        response
            .headers_mut()
            .insert(STATUS, http::HeaderValue::from_static("8"));
        async move { Ok::<_, Infallible>(response) }
    });
    let mut service = Observe.layer(inner);
    tracing::subscriber::with_default(subscriber, || {
        for path in [LAUNCH, "/nube.v1.InstanceService/ListInstances"] {
            let request = Request::builder().uri(path).body(()).expect("a request");
            let call = service.call(request);
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            drop(runtime.expect("a runtime").block_on(call));
        }
    });
    let text = String::from_utf8(lines.0.lock().expect("lines").clone()).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let span = &line["span"];
    assert_eq!(line["level"], "INFO");
    assert_eq!(span["method"], &LAUNCH[1..]);
    assert_eq!(span["request_id"], "07".repeat(16));
    assert_eq!(span["actor"], "operator/eve\n\u{1b}[31m\"");
    assert_eq!(span["code"], "RESOURCE_EXHAUSTED");
    assert!(span["duration_ms"].is_number(), "{text}");
}
