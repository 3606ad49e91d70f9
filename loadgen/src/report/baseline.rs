//! A run held against an earlier one: the ratio of each figure.

use super::model::Report;
use crate::measure::PhaseSummary;

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The phase it belongs to.
    pub phase: String,
    /// Its name.
    pub name: &'static str,
    /// The earlier value: messages per second, or nanoseconds.
    pub before: f64,
    /// The new value.
    pub after: f64,
    /// Whether more is better, as for a rate.
    pub more_is_better: bool,
}

/// All figures that two runs have in common, and what makes the two less comparable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// The figures, by phase.
    pub figures: Vec<Figure>,
    /// Differences between the runs that the reader should know of.
    pub caveats: Vec<String>,
}

impl Figure {
    /// New value / earlier value; `None` when the earlier one is 0.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.before > 0.0).then(|| self.after / self.before)
    }
}

impl Comparison {
    /// Compares phases of the same name.
    #[must_use]
    pub fn new(before: &Report, after: &Report) -> Comparison {
        let mut comparison = Comparison {
            figures: Vec::new(),
            caveats: caveats(before, after),
        };
        for phase in &after.phases {
            match before
                .phases
                .iter()
                .find(|earlier| earlier.name == phase.name)
            {
                Some(earlier) => comparison.figures.extend(figures(earlier, phase)),
                None => comparison
                    .caveats
                    .push(format!("the baseline has no phase '{}'", phase.name)),
            }
        }
        comparison
    }
}

fn figures(before: &PhaseSummary, after: &PhaseSummary) -> Vec<Figure> {
    let figure = |name, before, after, more_is_better| Figure {
        phase: String::new(),
        name,
        before,
        after,
        more_is_better,
    };
    let mut figures = vec![figure("rate", before.rate, after.rate, true)];
    if let (Some(before), Some(after)) = (before.latency(), after.latency()) {
        let pairs = before.figures().into_iter().zip(after.figures());
        figures.extend(
            pairs.map(|((name, before), (_, after))| {
                figure(name, before as f64, after as f64, false)
            }),
        );
    }
    figures
        .into_iter()
        .map(|figure| Figure {
            phase: after.name.clone(),
            ..figure
        })
        .collect()
}

fn caveats(before: &Report, after: &Report) -> Vec<String> {
    let mut caveats = Vec::new();
    let mut differ = |what: &str, before: &str, after: &str| {
        if before != after {
            caveats.push(format!("{what}: {before} then, {after} now"));
        }
    };
    differ("scenario", &before.scenario, &after.scenario);
    differ("CPU", &before.machine.cpu_model, &after.machine.cpu_model);
    differ(
        "CPUs",
        &before.machine.cpus.to_string(),
        &after.machine.cpus.to_string(),
    );
    differ("kernel", &before.machine.kernel, &after.machine.kernel);
    differ(
        "cores",
        &format!("{:?}", before.cores),
        &format!("{:?}", after.cores),
    );
    differ("seed", &before.seed.to_string(), &after.seed.to_string());
    for setting in &after.settings {
        let earlier = before
            .settings
            .iter()
            .find(|earlier| earlier.name == setting.name);
        differ(
            &setting.name,
            earlier.map_or("not given", |earlier| &earlier.value),
            &setting.value,
        );
    }
    for earlier in before
        .settings
        .iter()
        .filter(|e| after.settings.iter().all(|setting| setting.name != e.name))
    {
        differ(&earlier.name, &earlier.value, "not given");
    }
    for (which, report) in [("the baseline", before), ("this run", after)] {
        for phase in report
            .phases
            .iter()
            .filter(|phase| !phase.validity.is_valid())
        {
            caveats.push(format!("phase '{}' of {which} is invalid", phase.name));
        }
    }
    caveats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Setting;
    use crate::report::model::samples;

    #[test]
    fn a_run_equals_itself() {
        let report = samples::main_job();
        let comparison = Comparison::new(&report, &report);
        assert_eq!(comparison.figures.len(), 14);
        assert!(
            comparison
                .figures
                .iter()
                .all(|figure| figure.ratio() == Some(1.0))
        );
        assert_eq!(comparison.caveats, Vec::<String>::new());
    }

    #[test]
    fn ratios_and_differences_are_named() {
        let before = samples::main_job();
        let mut after = before.clone();
        after.phases[0].rate *= 2.0;
        after.phases[1].name = "other".to_owned();
        after.settings[0] = Setting::new("entities", "5");
        after.seed = 2;
        let comparison = Comparison::new(&before, &after);
        let rate = comparison
            .figures
            .iter()
            .find(|figure| figure.phase == "peak" && figure.name == "rate");
        assert_eq!(rate.and_then(Figure::ratio), Some(2.0));
        for caveat in [
            "seed: 1 then, 2 now",
            "entities: 1,000,000 then, 5 now",
            "the baseline has no phase 'other'",
        ] {
            assert!(
                comparison.caveats.iter().any(|known| known == caveat),
                "{caveat} in {:?}",
                comparison.caveats
            );
        }
    }

    #[test]
    fn nothing_to_divide_by_gives_no_ratio() {
        let figure = Figure {
            phase: "a".into(),
            name: "p50",
            before: 0.0,
            after: 1.0,
            more_is_better: false,
        };
        assert_eq!(figure.ratio(), None);
    }
}
