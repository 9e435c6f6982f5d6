//! A run on a terminal: a screen of its own that is left again however the run ends.
//!
//! The terminal stays in its usual mode, so Ctrl-C is the signal that it always is.

mod view;

use std::{
    io::{self, Stdout, stdout},
    panic,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use burn_hunyuan_train::run::Event;
use ratatui::Terminal;
use ratatui_crossterm::{
    CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen},
    },
};

use view::View;

/// The least time between two drawings.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the screen is ours.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// The dashboard; dropping it gives the terminal back.
pub(super) struct Dashboard {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    view: View,
    drawn: Instant,
}

impl Dashboard {
    /// Takes the screen, for a run of `steps` steps.
    ///
    /// # Errors
    /// A terminal that cannot be written to or does not tell its size.
    pub fn open(steps: u64) -> io::Result<Self> {
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        // A panic is told on the screen where it can be read.
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave();
            told(panic);
        }));
        let mut dashboard = Self {
            terminal,
            view: View::new(steps),
            drawn: Instant::now(),
        };
        enter()?;
        dashboard.draw();
        Ok(dashboard)
    }

    /// Shows what happened.
    pub fn show(&mut self, event: Event) {
        self.view.add(event);
        if matches!(event, Event::Line(_)) || self.drawn.elapsed() > PAUSE {
            self.draw();
        }
    }

    /// A terminal that has gone does not end the run.
    fn draw(&mut self) {
        // A panic that a run outlived, as of a sample, has left the screen.
        if !ENTERED.load(Ordering::Relaxed) {
            let _ = enter().and_then(|()| self.terminal.clear());
        }
        let _ = self.terminal.draw(|frame| self.view.draw(frame));
        self.drawn = Instant::now();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        leave();
    }
}

/// Takes the terminal.
fn enter() -> io::Result<()> {
    ENTERED.store(true, Ordering::Relaxed);
    execute!(stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back, once.
fn leave() {
    if ENTERED.swap(false, Ordering::Relaxed) {
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}
