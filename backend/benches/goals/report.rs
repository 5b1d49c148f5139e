//! The table, a row at a time as it is measured.

use crate::figures::written;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Rates.
    More,
    /// Times, ratios of times, memory.
    Less,
}

/// What the specification asks of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) better: Better,
    pub(crate) goal: Option<f64>,
    pub(crate) limit: Option<f64>,
}

impl Asked {
    /// At least this much.
    pub(crate) fn at_least(goal: f64) -> Self {
        Self { better: Better::More, goal: Some(goal), limit: None }
    }

    /// At most this much.
    pub(crate) fn at_most(goal: f64) -> Self {
        Self { better: Better::Less, goal: Some(goal), limit: None }
    }

    /// Nothing: the figure explains another.
    pub(crate) fn nothing() -> Self {
        Self { better: Better::Less, goal: None, limit: None }
    }

    /// The same with a limit.
    pub(crate) fn limit(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    fn verdict(self, measured: f64) -> &'static str {
        let reaches = |asked: f64| match self.better {
            Better::More => measured >= asked,
            Better::Less => measured <= asked,
        };
        match (self.goal.map(reaches), self.limit.map(reaches)) {
            (None, None) => "",
            (Some(true), _) => "goal",
            (_, Some(true)) => "limit",
            (_, Some(false)) => "beyond the limit",
            (_, None) => "short of the goal",
        }
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Report {
    goals: usize,
    met: usize,
}

impl Report {
    /// Prints the head.
    pub(crate) fn begin(quick: bool) -> Self {
        if quick {
            println!("Quick: the sizes are too small for the figures to mean anything.");
        }
        println!("Load generator and server share {} core(s); `load` is the generator's part of their time.", cores());
        println!("{:<66} {:>13} {:>13} {:>13} {:<8} {:>5}  ", "what", "measured", "goal", "limit", "unit", "load");
        println!("{}", "-".repeat(140));
        Self { goals: 0, met: 0 }
    }

    /// Adds a figure; `load` is the generator's part of the processor time, 0 to 1.
    pub(crate) fn row(&mut self, what: &str, unit: &str, measured: f64, asked: Asked, load: Option<f64>) {
        let shown = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), written);
        let load = load.map_or_else(|| "-".to_owned(), |load| format!("{:.0} %", load * 100.0));
        let verdict = asked.verdict(measured);
        let (goal, limit) = (shown(asked.goal), shown(asked.limit));
        println!("{what:<66} {:>13} {goal:>13} {limit:>13} {unit:<8} {load:>5}  {verdict}", written(measured));
        self.goals += usize::from(asked.goal.is_some());
        self.met += usize::from(verdict == "goal");
    }

    /// Prints the sum.
    pub(crate) fn end(&self) {
        println!("{} of {} goals are met.", self.met, self.goals);
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
