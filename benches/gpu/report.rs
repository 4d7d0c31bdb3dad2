//! What the bench says: a line of text for people, and one of JSON for programs.

use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What bounds a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Ceiling {
    /// Tensor cores on bf16.
    Bf16,
    /// Tensor cores on tf32.
    Tf32,
    /// Tensor cores on f64.
    F64,
    /// Tensor cores on 8-bit integers.
    Int8,
    /// The GPU's memory, bytes read and written.
    Copy,
    /// The way from the GPU to ordinary memory of the host.
    Download,
}

impl Ceiling {
    fn name(self) -> &'static str {
        match self {
            Ceiling::Bf16 => "bf16",
            Ceiling::Tf32 => "tf32",
            Ceiling::F64 => "f64",
            Ceiling::Int8 => "int8",
            Ceiling::Copy => "copy",
            Ceiling::Download => "download",
        }
    }
}

/// What a kernel cannot do without: amounts of operations or bytes, each with what bounds it.
pub type Needs<'a> = &'a [(f64, Ceiling)];

/// Measured ceilings in operations or bytes per second, PyTorch's times, and where results go.
pub struct Report {
    ceilings: BTreeMap<String, f64>,
    torch: BTreeMap<String, f64>,
    json: Option<File>,
    /// Whether every error so far was within its limit.
    pub all_well: bool,
}

impl Report {
    /// With what `benches/gpu_torch.py` printed, and a file to which lines of JSON are added.
    pub fn new(torch: &str, json: Option<&Path>) -> Report {
        let json = json.map(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        });
        let mut report = Report { ceilings: BTreeMap::new(), torch: BTreeMap::new(), json, all_well: true };
        for line in torch.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let (Some(name), Some(speed)) = (line["ceiling"].as_str(), line["per_second"].as_f64()) {
                report.ceilings.insert(name.into(), speed);
            }
            if let (Some(name), Some(seconds)) = (line["work"].as_str(), line["seconds"].as_f64()) {
                report.torch.insert(name.into(), seconds);
            }
        }
        report
    }

    fn write(&mut self, line: Value) {
        if let Some(file) = &mut self.json {
            writeln!(file, "{line}").expect("room on disk");
        }
    }

    /// A ceiling that was just measured.
    pub fn ceiling(&mut self, what: Ceiling, bytes: f64, seconds: f64) {
        let speed = bytes / seconds;
        println!("{:<44} {:>10.1} GB/s", format!("ceiling: {}", what.name()), speed / 1e9);
        self.ceilings.insert(what.name().into(), speed);
        self.write(json!({ "ceiling": what.name(), "per_second": speed }));
    }

    /// The least time that the ceilings allow, and what sets it; nothing where one of them was not measured.
    fn bound(&self, needs: Needs) -> Option<(f64, &'static str)> {
        let mut longest = (0.0, "");
        for &(amount, ceiling) in needs {
            let seconds = amount / self.ceilings.get(ceiling.name())?;
            if seconds > longest.0 {
                longest = (seconds, ceiling.name());
            }
        }
        Some(longest)
    }

    /// What a kernel took, beside its bound and PyTorch's time.
    pub fn time(&mut self, what: &str, seconds: f64, needs: Needs) {
        let (bound, torch) = (self.bound(needs), self.torch.get(what).copied());
        let micro = |s: f64| s * 1e6;
        let mut line = format!("{what:<44} {:>10.1} us", micro(seconds));
        if let Some((least, by)) = bound {
            let share = 100.0 * least / seconds;
            line += &format!(", bound {:>9.1} us ({by}), {share:>5.1} % of it", micro(least));
        }
        if let Some(theirs) = torch {
            line += &format!(", PyTorch {:.1} us: {:.2}", micro(theirs), seconds / theirs);
        }
        println!("{line}");
        let (least, by) = bound.unzip();
        self.write(json!({ "kernel": what, "seconds": seconds, "bound": least, "by": by, "torch": torch }));
    }

    /// The largest difference of `found` from `exact`, over the root mean square of `exact`.
    pub fn error(&mut self, what: &str, found: &[f64], exact: &[f64], limit: f64) {
        assert_eq!(found.len(), exact.len(), "{what}");
        let size = (exact.iter().map(|x| x * x).sum::<f64>() / exact.len() as f64).sqrt();
        let worst = found.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max) / size;
        let ok = worst <= limit;
        self.all_well &= ok;
        let verdict = if ok { "" } else { ": TOO LARGE" };
        println!("{what:<44} error {worst:.1e}, at most {limit:.0e}{verdict}");
        let value = if worst.is_finite() { json!(worst) } else { json!(worst.to_string()) };
        self.write(json!({ "error": what, "value": value, "limit": limit, "ok": ok }));
    }
}

/// The greater, and not a number where one of them is not.
fn nan_max(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() {
        a
    } else {
        b
    }
}
