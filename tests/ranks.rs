//! Collectives on 1, 2, 3 and 4 ranks, and what happens when one of them fails.

mod support;

use genialearn::error::{Error, Result};
use genialearn::linalg::pcg::{self, Params, Precision, State, Systems};
use genialearn::linalg::Rows;
use ndarray::{Array2, ArrayView2};
use support::on_ranks;

const SIZES: [usize; 4] = [1, 2, 3, 4];

#[test]
fn collectives_agree_with_their_definitions() {
    on_ranks("collectives_agree_with_their_definitions", &SIZES, |world| {
        let (rank, size) = (world.rank(), world.size());
        // 0 and 1: nothing and one; 3 million: several pieces of 4 MiB and a rest.
        for length in [0usize, 1, 3_000_001] {
            let mut sum: Vec<i64> = (0..length).map(|i| (i * (rank + 1)) as i64).collect();
            world.sum_i64(&mut sum);
            let factor = size * (size + 1) / 2;
            assert!(sum.iter().enumerate().all(|(i, &s)| s == (i * factor) as i64));

            let mut at_last = vec![1i64; length];
            world.sum_i64_to(size - 1, &mut at_last);
            let want = if rank == size - 1 { size as i64 } else { 1 };
            assert!(at_last.iter().all(|&s| s == want));

            let mut copy: Vec<f64> = vec![rank as f64; length];
            world.broadcast(size - 1, &mut copy);
            assert!(copy.iter().all(|&c| c == (size - 1) as f64));
        }
        let mut largest = [rank as f64, -(rank as f64)];
        world.max(&mut largest);
        assert_eq!(largest, [(size - 1) as f64, 0.0]);
        assert_eq!(world.all_gather(&rank), (0..size).collect::<Vec<_>>());
        if size > 1 {
            let bytes: Vec<u8> = (0..9_000_000u32).map(|i| i as u8).collect();
            match rank {
                0 => world.send(size - 1, &bytes),
                r if r == size - 1 => assert_eq!(world.receive::<u8>(0), bytes),
                _ => {}
            }
        }
    });
}

#[test]
fn a_world_splits_into_rows_and_columns() {
    on_ranks("a_world_splits_into_rows_and_columns", &[1, 2, 3, 4, 6], |world| {
        let (rank, size) = (world.rank(), world.size());
        for columns in (1..=size).filter(|c| size % c == 0) {
            let (r, c) = (rank / columns, rank % columns);
            let (row, column) = (world.split(r, c), world.split(c, r));
            assert_eq!((row.rank(), row.size()), (c, columns));
            assert_eq!((column.rank(), column.size()), (r, size / columns));
            // in pieces of 4 MiB with a rest, from the last of each row, while another thread computes
            let mut data = vec![rank as i64; 700_001];
            std::thread::scope(|s| {
                let work = s.spawn(|| (0..1000u64).sum::<u64>());
                row.broadcast_quietly(columns - 1, &mut data);
                assert_eq!(work.join().unwrap(), 499_500);
            });
            assert!(data.iter().all(|&x| x == (r * columns + columns - 1) as i64));
            // around the column
            if column.size() > 1 {
                let mut from_above = vec![0u8; 5_000_000];
                let gift = vec![r as u8; 5_000_000];
                if r + 1 < column.size() {
                    column.send_quietly(r + 1, &gift);
                }
                if r > 0 {
                    column.receive_quietly(r - 1, &mut from_above);
                    assert!(from_above.iter().all(|&x| usize::from(x) == r - 1));
                }
            }
            assert_eq!(row.all_gather(&rank), (r * columns..(r + 1) * columns).collect::<Vec<_>>());
        }
    });
}

#[test]
fn an_error_on_one_rank_is_known_to_all() {
    on_ranks("an_error_on_one_rank_is_known_to_all", &SIZES, |world| {
        assert_eq!(world.agree(Ok(5)).unwrap(), 5);
        for culprit in 0..world.size() {
            let mine: Result<()> = match world.rank() {
                r if r >= culprit => Err(Error::input(format!("rank {r}"), "a", "b", "c")),
                _ => Ok(()),
            };
            let e = world.agree(mine).unwrap_err();
            assert_eq!(e.exit_code(), 2);
            assert!(e.to_string().starts_with(&format!("rank {culprit}:")), "{e}");
        }
        let e = world.on_root(|| Err::<u8, _>(Error::failed("root", "x", "y"))).unwrap_err();
        assert_eq!((e.exit_code(), e.to_string().as_str()), (1, "root: x; y"));
    });
}

/// Started by the next test under mpirun: rank 1 panics while the others wait for it.
#[test]
fn panicking_helper() {
    if std::env::var("GENIALEARN_RANK_TEST").is_ok_and(|t| t == "panicking_helper") {
        let world = genialearn::comm::World::start().unwrap();
        assert!(world.rank() != 1, "planted panic");
        world.barrier();
    }
}

#[test]
fn a_panic_on_one_rank_stops_all_at_once() {
    for size in [2, 3] {
        let exe = std::env::current_exe().unwrap();
        let mut command = support::mpirun(size);
        command.arg(exe).args(["panicking_helper", "--exact", "--nocapture", "--test-threads=1"]);
        command.env("GENIALEARN_RANK_TEST", "panicking_helper");
        let start = std::time::Instant::now();
        let out = support::run_alone(command);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(101), "{text}");
        assert!(start.elapsed().as_secs() < 60, "the others waited for the dead rank");
        assert_eq!(text.matches("planted panic").count(), 1, "{text}");
    }
}

/// Diagonal systems over rows shared out over the ranks, whose preconditioner rounds differently on every rank, as it
/// does on processors of several kinds.
struct Uneven {
    rows: Rows,
}

impl Uneven {
    fn diagonal(&self, i: usize) -> f64 {
        let i = self.rows.own().start + i;
        0.1 + (i * i % 37) as f64
    }
}

impl Systems for Uneven {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let of = |(i, k): (usize, usize)| (self.diagonal(i) + columns[k] as f64) * block[[i, k]];
        Array2::from_shape_fn(block.dim(), of)
    }

    fn precondition(&self, _: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let off = 1e-9 * self.rows.world().rank() as f64;
        Array2::from_shape_fn(block.dim(), |(i, k)| block[[i, k]] * (1.0 + off * (i as f64).sin()))
    }
}

#[test]
fn ranks_that_round_differently_solve_the_same_columns_to_the_end() {
    on_ranks("ranks_that_round_differently_solve_the_same_columns_to_the_end", &[2, 3], |world| {
        let systems = Uneven { rows: Rows::new(world, 2600) };
        let first = systems.rows.own().start;
        let b = Array2::from_shape_fn((systems.rows.count(), 3), |(i, k)| {
            (((first + i) * 7 + k * 3) % 11) as f64 - 5.0
        });
        let mut residuals = Vec::new();
        let fine = Params { precision: Precision::Double, ..Params::default() };
        let mut keep = |state: &State| {
            residuals.push(state.worst());
            Ok(())
        };
        let begin = State::begin(&systems, b.view(), fine);
        pcg::solve_from(&systems, b.view(), fine, begin, &mut keep).unwrap();
        assert!(residuals.len() > 15, "{residuals:?}");
        // Tolerances so near to a residual that ranks would decide differently by their own numbers.
        for (k, side) in (4..14).flat_map(|k| [-1.0, 0.0, 1.0].map(|side| (k, side))) {
            let tolerance = 2.0 * residuals[k] * (1.0 + side * 1e-11);
            let (_, info) = pcg::solve(&systems, b.view(), Params { tolerance, ..fine });
            assert!(info.converged.iter().all(|&c| c), "{k}: {info:?}");
            let all = world.all_gather(&info);
            assert!(all.iter().all(|other| *other == info));
        }
    });
}

#[test]
fn parts_of_all_ranks_are_gathered_and_sums_are_parted() {
    on_ranks("parts_of_all_ranks_are_gathered_and_sums_are_parted", &SIZES, |world| {
        let counts: Vec<usize> = (0..world.size()).map(|r| if r == 1 { 0 } else { 2 * r + 3 }).collect();
        let start: usize = counts[..world.rank()].iter().sum();
        let all: Vec<f64> = (0..counts.iter().sum()).map(|i| i as f64 * 1.5).collect();
        let own = all[start..start + counts[world.rank()]].to_vec();
        assert_eq!(world.gather(own, &counts), all);
        let mine: Vec<i64> = (0..all.len()).map(|i| (i * (world.rank() + 1)) as i64).collect();
        let factor = world.size() * (world.size() + 1) / 2;
        let want: Vec<i64> = (start..start + counts[world.rank()]).map(|i| (i * factor) as i64).collect();
        assert_eq!(world.sum_parts_i64(mine, &counts), want);
    });
}

/// Kernels that OpenBLAS names as it is loaded, by a command that multiplies: the last is what works.
fn kernels(chosen: Option<&str>) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut command = support::genialearn(1);
    command.args(["simulate", "--animals", "20", "--snps", "30", "--traits", "1", "--quiet"]);
    command.args(["--out", &path("a.h5"), "--pheno", &path("a.tsv")]).env("OPENBLAS_VERBOSE", "2");
    match chosen {
        Some(core) => command.env("OPENBLAS_CORETYPE", core),
        None => command.env_remove("OPENBLAS_CORETYPE"),
    };
    let out = support::run_alone(command);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && dir.path().join("a.h5").exists(), "{told}");
    told.lines().filter_map(|line| line.strip_prefix("Core: ")).map(str::to_owned).collect()
}

#[test]
fn an_old_openblas_does_not_take_kernels_of_an_older_processor() {
    let (own, chosen) = (kernels(None), kernels(Some("Nehalem")));
    let Some(last) = own.last() else {
        println!("not run: this OpenBLAS names no kernels");
        return;
    };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        assert!(!["Prescott", "Core2", "Nehalem"].contains(&last.as_str()), "{own:?}");
    }
    // What the user chose stays, and the program is begun once.
    assert!(last.is_empty() || chosen.len() == 1, "{chosen:?}");
}

/// Kinds of processors whose kernels OpenBLAS takes on the two ranks: with fused multiply-add and without.
const CORES: [&str; 2] = ["Haswell", "Nehalem"];

/// The program on two ranks, each with another kind's kernels; nothing where OpenBLAS has no choice. It may last a
/// minute: ranks that decide differently wait for each other for ever.
fn on_two_kinds(arguments: &[&str]) -> Option<std::process::Output> {
    let program = env!("CARGO_BIN_EXE_genialearn");
    for core in CORES {
        let mut command = support::genialearn(1);
        command.env("OPENBLAS_CORETYPE", core).env("OPENBLAS_VERBOSE", "2").arg("--version");
        let told = command.output().unwrap();
        if !(told.status.success()
            && String::from_utf8_lossy(&told.stderr).contains(&format!("Core: {core}")))
        {
            println!("not run: OpenBLAS has no kernels of {core} here");
            return None;
        }
    }
    let mut command = support::mpirun_for("60", 1);
    command.args(["env", &format!("OPENBLAS_CORETYPE={}", CORES[0]), program]).args(arguments);
    command
        .args([":", "-n", "1", "env", &format!("OPENBLAS_CORETYPE={}", CORES[1]), program])
        .args(arguments);
    Some(support::run_alone(command))
}

/// Whether the numbers of two tables are the same to a share of the largest in their column, and the texts all the
/// same.
fn alike(a: &str, b: &str, share: f64) -> bool {
    let cells = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    };
    let (a, b) = (cells(a), cells(b));
    let number = |cell: &String| cell.parse::<f64>().ok();
    let column =
        |c: usize| a.iter().filter_map(move |row| number(row.get(c)?)).fold(0.0f64, |m, x| m.max(x.abs()));
    a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| {
            a.len() == b.len()
                && a.iter().zip(b).enumerate().all(|(c, (a, b))| match (number(a), number(b)) {
                    (Some(x), Some(y)) => x == y || (x - y).abs() <= share * column(c),
                    _ => a == b,
                })
        })
}

#[test]
fn processors_of_two_kinds_in_one_job_find_what_one_finds() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (small, traits, wide, other) = (path("s.h5"), path("p.tsv"), path("w.h5"), path("q.tsv"));
    for (store, pheno, n, m) in [(&small, &traits, "150", "600"), (&wide, &other, "2040", "60")] {
        let size = ["--animals", n, "--snps", m, "--traits", "2"];
        support::succeeds(1, &[&["simulate", "-q", "--out", store, "--pheno", pheno], &size[..]].concat());
    }
    let records = [&small[..], "--pheno", &traits];
    // Residuals that are all rounding errors; more components than the SNPs carry, so that some are.
    let gblup = [&["gblup", "--solver", "pcg"], &records[..]].concat();
    let reml = [&["reml"], &records[..]].concat();
    for (name, arguments, tables, share) in [
        (
            "g",
            [&gblup[..], &["--h2", "0.3", "--tolerance", "1e-14", "--precision", "f64"]].concat(),
            &["ebv", "fixed"][..],
            1e-6,
        ),
        ("s", [&reml[..], &["--method", "stochastic", "--probes", "8"]].concat(), &["variances"], 1e-4),
        ("e", reml.clone(), &["variances"], 1e-6),
        ("p", vec!["pca", &small], &["eigenval", "eigenvec"], 1e-5),
        ("k", vec!["pca", &wide], &["eigenval", "eigenvec"], 1e-5),
    ] {
        let with = |out: &str| {
            [&arguments[..], &["-q", "--out", out]]
                .concat()
                .iter()
                .map(|a| (*a).to_owned())
                .collect::<Vec<_>>()
        };
        let (one, two) = (with(&path(&format!("{name}1"))), with(&path(&format!("{name}2"))));
        let text = |all: &[String]| all.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let Some(ended) = on_two_kinds(&two.iter().map(String::as_str).collect::<Vec<_>>()) else { return };
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{}: {}\n{told}", text(&two), ended.status);
        support::succeeds(1, &one.iter().map(String::as_str).collect::<Vec<_>>());
        for table in tables {
            let read =
                |ranks: usize| std::fs::read_to_string(path(&format!("{name}{ranks}.{table}.tsv"))).unwrap();
            assert!(alike(&read(1), &read(2), share), "{name}, {table}:\n{}\n{}", read(1), read(2));
        }
    }
}
