//! A map of networks as a picture: the internet on top, networks below it as
//! boxes, in them subnets with their ports, and load balancers. Laid out by hand:
//! one column for each network.

use nube_proto::v1::{MappedNetwork, NetworkMap};
use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::output::text::escape;

const COLUMN: usize = 420;
const MARGIN: usize = 20;
const LINE: usize = 20;
const TOP: usize = 110;

/// The picture as text. Other people's texts are text nodes, which are escaped,
/// and never attributes.
pub fn svg(map: &NetworkMap) -> String {
    let columns = map.networks.len().max(1);
    let rows = map.networks.iter().map(|one| lines(one).len()).max();
    let width = MARGIN + columns * (COLUMN + MARGIN);
    let height = TOP + (rows.unwrap_or(0) + 2) * LINE + MARGIN;
    let mut picture = Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .add(area(MARGIN, MARGIN, width - 2 * MARGIN, 36, "#dbeafe"))
        .add(label(2 * MARGIN, MARGIN + 23, "internet"));
    for (at, network) in map.networks.iter().enumerate() {
        picture = draw(picture, network, MARGIN + at * (COLUMN + MARGIN));
    }
    format!("{picture}\n")
}

fn area(x: usize, y: usize, width: usize, height: usize, fill: &str) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", height)
        .set("rx", 6)
        .set("fill", fill)
        .set("stroke", "#475569")
}

fn label(x: usize, y: usize, text: &str) -> Text {
    Text::new(escape(text)).set("x", x).set("y", y)
}

/// How far a line is indented, and what it says.
fn lines(mapped: &MappedNetwork) -> Vec<(usize, String)> {
    let network = mapped.network.clone().unwrap_or_default();
    let mut lines = Vec::new();
    for subnet in &network.subnets {
        lines.push((0, format!("subnet {} {}", subnet.name, subnet.cidr)));
        for port in mapped.ports.iter().filter(|p| p.subnet_id == subnet.id) {
            let mut text = format!("{} {} {}", port.instance_name, port.private_ip, port.state);
            for (word, value) in [("on", &port.host), ("as", &port.elastic_address)] {
                if !value.is_empty() {
                    text.push_str(&format!(" {word} {value}"));
                }
            }
            lines.push((1, text));
        }
    }
    for balancer in &mapped.load_balancers {
        lines.push((0, format!("load balancer {}", balancer.name)));
        lines.extend(balancer.listeners.iter().map(|one| (1, one.clone())));
        for target in &balancer.targets {
            let mut ports = mapped.ports.iter();
            let known = ports.find(|port| port.instance_id == *target);
            let name = known.map_or(target, |port| &port.instance_name);
            lines.push((1, format!("to {name}")));
        }
    }
    lines
}

fn draw(mut picture: Document, mapped: &MappedNetwork, x: usize) -> Document {
    let network = mapped.network.clone().unwrap_or_default();
    let lines = lines(mapped);
    let height = (lines.len() + 2) * LINE;
    if network.internet_gateway {
        let middle = x + COLUMN / 2;
        let way = Line::new()
            .set("x1", middle)
            .set("x2", middle)
            .set("y1", MARGIN + 36)
            .set("y2", TOP)
            .set("stroke", "#475569");
        picture = picture
            .add(way)
            .add(label(middle + 6, TOP - 20, "internet gateway"));
    }
    picture = picture
        .add(area(x, TOP, COLUMN, height, "#f8fafc"))
        .add(label(
            x + 10,
            TOP + LINE,
            &format!("network {}", network.name),
        ));
    for (at, (depth, text)) in lines.iter().enumerate() {
        let y = TOP + (at + 2) * LINE;
        picture = picture.add(label(x + 20 + depth * 20, y, text));
    }
    picture
}
