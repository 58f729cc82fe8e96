//! `explain-path`: the stages of a path, up to the first no.

use nube_proto::v1::network_service_client::NetworkServiceClient;
use nube_proto::v1::{ExplainPathRequest, PathExplanation};

use super::App;
use crate::args::network::ExplainPath;
use crate::error::Result;
use crate::output::table::{Look, Tone, paint};
use crate::output::text::escape;

const WIDTH: usize = 80;

/// `explain-path`.
pub async fn run(app: &App, args: ExplainPath) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let request = ExplainPathRequest {
        from: args.from,
        to: args.to,
        protocol: args
            .protocol
            .map(|p| p.word().to_owned())
            .unwrap_or_default(),
        port: args.port.unwrap_or_default(),
    };
    let answer = call!(
        client,
        "explain path",
        NetworkServiceClient.explain_path(request)
    )?;
    app.output.message(&answer, |look| view(look, &answer))
}

fn view(look: Look, answer: &PathExplanation) -> String {
    let (word, tone) = match answer.passes {
        true => ("passes", Tone::Good),
        false => ("no", Tone::Bad),
    };
    let summary = wrap(&escape(&answer.summary), 0);
    let mut out = format!("{}:\n{summary}\n", paint(look, word, tone));
    for step in &answer.steps {
        let (word, tone) = match step.passes {
            true => ("yes", Tone::Good),
            false => ("no ", Tone::Bad),
        };
        let (word, stage) = (paint(look, word, tone), escape(&step.stage));
        out.push_str(&format!("{word}  {stage}\n"));
        out.push_str(&wrap(&escape(&step.detail), 5));
    }
    out
}

/// Lines of words that fit, indented; a longer word has a line of its own.
fn wrap(text: &str, indent: usize) -> String {
    let (mut out, mut line) = (String::new(), String::new());
    for word in text.split(' ') {
        let width = indent + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && width > WIDTH {
            out.push_str(&format!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&format!("{:indent$}{line}\n", ""));
    out
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_proto::v1::PathStep;

    #[test]
    fn explained_paths_are_golden() {
        let step = |stage: &str, passes, detail: &str| PathStep {
            stage: stage.into(),
            passes,
            detail: detail.into(),
        };
        let answer = PathExplanation {
            passes: false,
            summary: "tcp 443 from web does not reach vault (10.0.0.5): `cloudctl \
                      security-group add-rule closed --ingress --protocol tcp --port 443 --from \
                      10.0.0.4` would let it pass"
                .into(),
            steps: vec![
                step(
                    "source",
                    true,
                    "web (i-1) 10.0.0.4 in network default is running",
                ),
                step(
                    "ingress rules of vault",
                    false,
                    "no rule of group closed allows tcp 443 from 10.0.0.4; \
                     sgr-0000000000000001 (tcp 22 from 0.0.0.0/0): another port\u{1b}",
                ),
            ],
            revision: 7,
        };
        crate::golden::check_narrow("explain_path", &view(Look::default(), &answer));
    }
}
