//! Which herds can be simulated: the bounds of all numbers, and names that must be known.

use super::{Form, SimulationConfig, TraitConfig};
use crate::config;
use crate::error::{Error, Result};
use crate::simulate::defaults;

/// Longest genome in Gb: the positions of its longest chromosome (6 % of it) stay below 2³² base pairs.
const LONGEST_GENOME_GB: f64 = 40.0;

impl SimulationConfig {
    /// Refuses what cannot be simulated.
    pub fn check(&self) -> Result<()> {
        at_least("animals", self.animals, 1)?;
        at_least("snps", self.snps, 1)?;
        let listed = self.trait_list.len();
        if let Some(wanted) = self.traits {
            at_least("traits", wanted, 1)?;
            if wanted > listed {
                let advice = "ask for fewer, or list more under [[trait]] in the configuration";
                return Err(Error::input("traits", format!("at most {listed}"), wanted, advice));
            }
        }
        at_least("trait", listed, 1)?;
        within("missing_calls", self.missing_calls, 0.0, 0.9)?;
        self.check_scales()?;
        self.trait_list.iter().try_for_each(|t| self.check_trait(t))?;
        self.check_names()
    }

    fn check_scales(&self) -> Result<()> {
        within("map.mean_spacing_kb", self.map.mean_spacing_kb, 0.01, 5000.0)?;
        let length = self.snps as f64 * self.map.mean_spacing_kb / 1e6;
        within("snps x map.mean_spacing_kb, in Gb,", length, 0.0, LONGEST_GENOME_GB)?;
        within("map.cm_per_mb", self.map.cm_per_mb, 0.0, 100.0)?;
        let f = &self.founders;
        at_least("founders.ancestors", f.ancestors, 2)?;
        for (name, rate) in [
            ("switches_per_mb", f.switches_per_mb),
            ("slow_changes_per_mb", f.slow_changes_per_mb),
            ("fast_changes_per_mb", f.fast_changes_per_mb),
            ("frequency_changes_per_mb", f.frequency_changes_per_mb),
        ] {
            within(&format!("founders.{name}"), rate, 0.001, 10_000.0)?;
        }
        within("founders.own", f.own, 0.0, 1.0)?;
        within("founders.fast", f.fast, 0.0, 1.0)?;
        within("founders.frequency_jitter", f.frequency_jitter, 0.0, 1.0)?;
        at_least("pedigree.years", self.pedigree.years, 1)?;
        within("pedigree.last_year", f64::from(self.pedigree.last_year), 1900.0, 2200.0)?;
        within("pedigree.years", self.pedigree.years as f64, 1.0, 100.0)?;
        within("pedigree.popularity", self.pedigree.popularity, 0.0, 5.0)?;
        self.pedigree.sires.map_or(Ok(()), |s| at_least("pedigree.sires", s, 1))
    }

    fn check_trait(&self, t: &TraitConfig) -> Result<()> {
        let at = |key: &str| format!("trait {}: {key}", t.name);
        within(&at("h2"), t.h2, 0.0, 1.0)?;
        within(&at("non_additive"), t.non_additive, 0.0, 1.0)?;
        within(&at("h2 + non_additive"), t.h2 + t.non_additive, 0.0, 1.0)?;
        within(&at("recorded"), t.recorded, 0.0, 1.0)?;
        within(&at("sd"), t.sd, 1e-12, 1e12)?;
        within(&at("sum of classes"), t.classes.iter().sum(), 0.0, 1.0)?;
        t.classes.iter().try_for_each(|&share| within(&at("classes"), share, 0.0, 1.0))?;
        if (t.non_additive > 0.0) != (t.form != Form::Additive) {
            let advice = "give both `form` and a positive `non_additive`, or neither";
            return Err(Error::input(
                at("form"),
                "a form with its share",
                format!("{:?} with {}", t.form, t.non_additive),
                advice,
            ));
        }
        t.spread.map_or(Ok(()), |s| within(&at("spread"), s, 1e-6, 1e6))?;
        if let Some(own) = t.own_qtl {
            let left = self.snps.saturating_sub(self.qtl);
            within(&at("own_qtl"), own as f64, 1.0, left.max(1) as f64)?;
        }
        if t.spread.is_some() && !t.form.is_link() || t.spread.is_none() && t.form == Form::Linear {
            let advice = "give it to links only; a linear link needs it";
            let found = t.spread.map_or("none".into(), |s| s.to_string());
            return Err(Error::input(at("spread"), format!("what suits {:?}", t.form), found, advice));
        }
        let driven = t.of.as_deref();
        match (t.form.is_link(), driven) {
            (false, None) => Ok(()),
            (true, Some(of)) if self.trait_list.iter().any(|o| o.name == of && o.name != t.name) => Ok(()),
            (true, Some(of)) => Err(self.unknown(&at("of"), of)),
            (true, None) => {
                Err(Error::input(at("of"), "another trait", "none", "name the trait that drives it"))
            }
            (false, Some(of)) => {
                Err(Error::input(at("of"), "a link's form", of, "remove `of` or set `form`"))
            }
        }
    }

    /// Every name must be known: a configured trait or group, or one of the default list.
    fn check_names(&self) -> Result<()> {
        for (i, t) in self.trait_list.iter().enumerate() {
            if self.trait_list[..i].iter().any(|o| o.name == t.name) || t.name == "id" {
                return Err(Error::input("trait", "names that differ", &t.name, "rename one of the two"));
            }
        }
        for t in self.selected() {
            match &t.of {
                Some(of) if !self.selected().iter().any(|o| &o.name == of) => {
                    let advice = format!("ask for more traits, so that {of} is among them");
                    return Err(Error::input(
                        format!("trait {}: of", t.name),
                        "a simulated trait",
                        of,
                        advice,
                    ));
                }
                _ => {}
            }
        }
        for c in &self.correlation {
            within(&format!("correlation {}, {}: r", c.between[0], c.between[1]), c.r, -0.99, 0.99)?;
            c.between.iter().try_for_each(|name| self.check_known("correlation", name))?;
        }
        for gene in &self.major {
            let at = format!("major {}", gene.name);
            within(&format!("{at}: chromosome"), gene.chromosome as f64, 1.0, 29.0)?;
            within(&format!("{at}: place"), gene.place, 0.0, 1.0)?;
            gene.effects.keys().try_for_each(|name| self.check_known(&at, name))?;
        }
        self.trait_list.iter().try_for_each(|t| {
            let majors: f64 =
                self.major.iter().filter_map(|g| g.effects.get(&t.name)).map(|share| share.abs()).sum();
            within(&format!("trait {}: shares of its major genes", t.name), majors, 0.0, t.h2)
        })
    }

    fn check_known(&self, place: &str, name: &str) -> Result<()> {
        let known = |list: &[TraitConfig]| list.iter().any(|t| t.name == name || t.group == name);
        if known(&self.trait_list) || known(&defaults::traits()) {
            return Ok(());
        }
        Err(self.unknown(place, name))
    }

    fn unknown(&self, place: &str, name: &str) -> Error {
        let known = self.trait_list.iter().flat_map(|t| [t.name.as_str(), t.group.as_str()]);
        let advice = match config::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a trait under [[trait]]".to_string(),
        };
        Error::input(place, "the name of a trait", format!("`{name}`"), advice)
    }
}

fn at_least(name: &str, found: usize, low: usize) -> Result<()> {
    if found < low {
        return Err(Error::input(name, format!("at least {low}"), found, "raise it"));
    }
    Ok(())
}

fn within(name: &str, found: f64, low: f64, high: f64) -> Result<()> {
    if !(low..=high).contains(&found) {
        return Err(Error::input(name, format!("a number from {low} to {high}"), found, "change it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn problem(text: &str) -> String {
        let read = config::parse::<SimulationConfig>(text, Path::new("sim.toml"));
        let e = read.and_then(|c| c.check()).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        e.to_string()
    }

    #[test]
    fn wrong_configurations_are_told() {
        assert!(problem("animls = 3").contains("did you mean `animals`?"));
        assert!(problem("[map]\nmean_spacing = 3").contains("did you mean `mean_spacing_kb`?"));
        assert!(problem("snps = 50000\n[map]\nmean_spacing_kb = 1400.0").contains("from 0 to 40, found 70"));
        assert!(problem("animals = 0").contains("animals: expected at least 1, found 0"));
        assert!(problem("traits = 34").contains("at most 33"));
        let one = "[[trait]]\nname = \"a\"\ngroup = \"g\"\n";
        assert!(problem(&format!("{one}h2 = 1.5")).contains("trait a: h2: expected a number from 0 to 1"));
        assert!(problem(&format!("{one}h2 = 0.6\nnon_additive = 0.6\nform = \"sine\"")).contains("1.2"));
        assert!(problem(&format!("{one}h2 = 0.5\nnon_additive = 0.1")).contains("a form with its share"));
        let link = "h2 = 0.5\nnon_additive = 0.1\nform = \"sine\"\nof = \"mlik\"\n";
        assert!(problem(&format!("{one}{link}")).contains("`mlik`"));
        assert!(
            problem(&format!("{one}h2 = 0.5\nspread = 2")).contains("spread: expected what suits Additive")
        );
        let linear = "h2 = 0.5\nnon_additive = 0.1\nform = \"linear\"\nof = \"milk\"\n";
        assert!(problem(&format!("{one}{linear}")).contains("what suits Linear, found none"));
        assert!(problem(&format!("{one}h2 = 0.5\n{one}h2 = 0.5\n")).contains("names that differ"));
        assert!(problem("[[correlation]]\nbetween = [\"milk\", \"fatt\"]\nr = 0.5").contains("`fat`"));
        assert!(problem("[[major]]\nname = \"X\"\nchromosome = 30\nplace = 0.5\neffects = {}").contains("29"));
        let big = "[[major]]\nname = \"X\"\nchromosome = 3\nplace = 0.5\neffects = { milk = 0.9 }";
        assert!(problem(big).contains("shares of its major genes"));
    }
}
