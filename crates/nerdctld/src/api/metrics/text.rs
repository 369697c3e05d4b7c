//! Prometheus' text format (Prometheus, "Exposition formats").

use std::fmt::{Display, Write as _};

/// What the numbers of a family mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begin a family; its values follow.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    /// One value.
    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The page.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_prometheus_reads() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "How many");
        page.value("a_total", &[], 3);
        page.value("b", &[("os", "a \"b\" \\ c\nd"), ("x", "")], 1.5);
        assert_eq!(
            page.into_text(),
            "# HELP a_total How many\n# TYPE a_total counter\na_total 3\nb{os=\"a \\\"b\\\" \\\\ c\\nd\",x=\"\"} 1.5\n"
        );
    }
}
