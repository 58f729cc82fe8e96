//! Progress by stage on standard error: a spinner on a terminal, otherwise one
//! line per finished stage. Each line starts with the seconds since the start.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::text::escape;

/// The stages of one or more things that happen side by side.
#[derive(Debug)]
pub struct Progress {
    screen: Option<MultiProgress>,
    started: Instant,
}

impl Progress {
    /// Starts the clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            screen: std::io::stderr().is_terminal().then(MultiProgress::new),
            started: Instant::now(),
        }
    }

    /// Follows one thing.
    #[must_use]
    pub fn track(&self, subject: &str) -> Track<'_> {
        let bar = self.screen.as_ref().map(|screen| {
            let bar = screen.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{elapsed:>7} {spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Track {
            progress: self,
            bar,
            subject: escape(subject),
        }
    }

    /// A bar for bytes; `None` where nobody looks.
    #[must_use]
    pub fn bytes(&self, what: &str, total: u64) -> Option<ProgressBar> {
        let screen = self.screen.as_ref()?;
        let bar = screen.add(ProgressBar::new(total));
        let template = "{msg:24} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(escape(what));
        Some(bar)
    }

    /// Prints a line above all spinners.
    pub fn say(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!("{seconds:6.1} s  {}", escape(text));
        match &self.screen {
            // A failing terminal is no reason to fail a launch.
            Some(screen) => drop(screen.println(line)),
            None => eprintln!("{line}"),
        }
    }
}

/// The stages of one thing.
#[derive(Debug)]
pub struct Track<'a> {
    progress: &'a Progress,
    bar: Option<ProgressBar>,
    subject: String,
}

impl Track<'_> {
    /// What is going on now; shown on a terminal only.
    pub fn doing(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {}", self.subject, escape(text)));
        }
    }

    /// What has been reached.
    pub fn done(&self, text: &str) {
        self.progress.say(&format!("{}: {text}", self.subject));
    }
}

impl Drop for Track<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line on standard error that is no failure.
pub fn warn(text: &str) {
    eprintln!("warning: {}", escape(text));
}
