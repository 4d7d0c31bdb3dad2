//! The run record `PREFIX.run.json` that stands beside every result: what was run, on what, how long it took.

use crate::comm::Traffic;
use crate::error::{Error, Result};
use crate::output;
use crate::usage::{cpu_seconds, peak_memory};
use std::io::Read;
use std::path::Path;
use std::time::Instant;

/// One run of a command, as it will be written.
#[derive(Debug, serde::Serialize)]
pub struct RunRecord {
    /// The program's version.
    pub version: &'static str,
    /// The command line as given.
    pub command_line: Vec<String>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// Number of ranks.
    pub ranks: usize,
    /// Threads of each rank.
    pub threads: usize,
    /// The backend that computed.
    pub device: String,
    /// Input files with size and CRC-32.
    pub inputs: Vec<Input>,
    /// The phases as rank 0 saw them, in order.
    pub phases: Vec<Phase>,
    /// Seconds from start to end.
    pub wall_seconds: f64,
    /// CPU seconds of rank 0, all threads.
    pub cpu_seconds: f64,
    /// Largest resident memory of rank 0, in bytes.
    pub peak_memory_bytes: u64,
    /// What the solver has to tell, where there is one that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solver: Option<serde_json::Value>,
    /// What every rank used, in rank order.
    pub usage: Vec<Usage>,
    #[serde(skip)]
    started: Instant,
}

/// One input file.
#[derive(Debug, serde::Serialize)]
pub struct Input {
    /// Path as given.
    pub path: String,
    /// Size in bytes; 0 for a pipe.
    pub bytes: u64,
    /// CRC-32 (IEEE) of the contents, in hexadecimal; `pipe` for a pipe.
    pub crc32: String,
}

/// One named part of the work, as one rank saw it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// CPU seconds of all threads, with those spent in communication.
    pub cpu_seconds: f64,
    /// What the phase gave to other ranks, and the time that took.
    pub traffic: Traffic,
}

/// What one rank used in a run.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// CPU seconds of all threads, from the start of the process.
    pub cpu_seconds: f64,
    /// Largest resident memory, in bytes.
    pub peak_memory_bytes: u64,
    /// All communication.
    pub traffic: Traffic,
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

impl RunRecord {
    /// Begins the record of this process's command.
    pub fn begin(seed: u64, ranks: usize, threads: usize, device: &str) -> Self {
        RunRecord {
            version: env!("CARGO_PKG_VERSION"),
            command_line: std::env::args().collect(),
            seed,
            ranks,
            threads,
            device: device.to_string(),
            inputs: Vec::new(),
            phases: Vec::new(),
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            peak_memory_bytes: 0,
            solver: None,
            usage: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Notes an input file with its checksum, once. A pipe is left unread: it can be read only once.
    pub fn input(&mut self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        if self.inputs.iter().any(|i| i.path == name) {
            return Ok(());
        }
        if std::fs::metadata(path).is_ok_and(|facts| !facts.is_file() && !facts.is_dir()) {
            self.inputs.push(Input { path: name, bytes: 0, crc32: "pipe".into() });
            return Ok(());
        }
        let mut file = std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let n = file.read(&mut buffer).map_err(|e| Error::reading(path, &e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            bytes += n as u64;
        }
        let crc32 = format!("{:08x}", hasher.finalize());
        self.inputs.push(Input { path: name, bytes, crc32 });
        Ok(())
    }

    /// Notes that a phase ended, which began at `before`.
    pub fn phase(&mut self, name: &str, before: &Moment) {
        self.phases.push(Phase {
            name: name.to_string(),
            seconds: before.wall.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - before.cpu,
            traffic: Traffic::now().since(&before.traffic),
        });
    }

    /// What this rank used until now.
    pub fn used(&self) -> Usage {
        let (cpu_seconds, peak_memory_bytes) = (cpu_seconds(), peak_memory());
        Usage { cpu_seconds, peak_memory_bytes, traffic: Traffic::now(), phases: self.phases.clone() }
    }

    /// Ends the record and writes it to `path`, replacing an older one.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        self.wall_seconds = self.started.elapsed().as_secs_f64();
        (self.cpu_seconds, self.peak_memory_bytes) = (cpu_seconds(), peak_memory());
        let text = serde_json::to_string_pretty(self).expect("plain fields serialize");
        output::write_file(path, true, |w| writeln!(w, "{text}"))
    }
}

/// The clocks and counts at one moment.
#[derive(Debug)]
pub struct Moment {
    wall: Instant,
    cpu: f64,
    traffic: Traffic,
}

impl Moment {
    /// This moment.
    pub fn now() -> Moment {
        Moment { wall: Instant::now(), cpu: cpu_seconds(), traffic: Traffic::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_checksums_and_phases() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in");
        std::fs::write(&input, "123456789").unwrap();
        let mut record = RunRecord::begin(1, 2, 3, "cpu");
        record.input(&input).unwrap();
        record.input(Path::new("/dev/null")).unwrap(); // as a pipe: no regular file
        record.phase("read", &Moment::now());
        record.usage = vec![record.used()];
        let out = dir.path().join("x.run.json");
        record.write(&out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        assert_eq!(json["inputs"][0]["crc32"], "cbf43926"); // the standard check value of CRC-32
        assert_eq!(json["inputs"][1], serde_json::json!({"path": "/dev/null", "bytes": 0, "crc32": "pipe"}));
        assert_eq!(json["phases"][0]["name"], "read");
        assert_eq!(json["usage"][0]["phases"][0]["traffic"]["sum_bytes"], 0);
        assert!(json["peak_memory_bytes"].as_u64().unwrap() > 1_000_000);
    }
}
