//! Trees beside trees grown by plain loops.

use super::boosting::{self, Lesson};
use super::grow::{grow, Genotypes, Grown, Order, Task};
use super::split::{is_drawn, Rules, Units};
use super::tree::{Node, Split, Tree};
use super::{forest, whole, Questions};
use crate::comm::World;
use crate::device;
use crate::packed::{Packed, MISSING};
use crate::records::{Feature, Features, Values};
use crate::rng::{Purpose, Stream};
use crate::stats;
use ndarray::Array2;

const ANY: Rules =
    Rules { depth: 4, leaves: usize::MAX, min_animals: 3.0, l2: 0.7, gamma: 0.01, snp_share: 1.0 };

/// Calls of a herd, a twentieth of them missing, with linkage between neighbours.
fn calls(n: usize, m: usize, seed: u64) -> Packed {
    let mut s = Stream::new(seed, Purpose::Test, 1);
    let mut codes = vec![0u8; n * m];
    for animal in codes.chunks_mut(m) {
        let mut last = s.below(3) as u8;
        for code in animal {
            if s.uniform() < 0.5 {
                last = s.below(3) as u8;
            }
            *code = if s.uniform() < 0.05 { MISSING } else { last };
        }
    }
    Packed::from_codes(n, m, &codes)
}

fn genotypes(packed: &Packed, share: f64, backend: &str) -> Genotypes {
    let all: Vec<usize> = (0..packed.rows()).collect();
    let read = |snps: std::ops::Range<usize>| Ok(packed.select(&all, &snps.collect::<Vec<_>>()));
    let device = device::open(backend).unwrap();
    Genotypes::new(&World::alone(), device, (packed.rows(), packed.columns()), share, read).unwrap()
}

fn task(n: usize, number: u64, weighted: bool, repeated: bool) -> Task {
    let mut s = Stream::new(number, Purpose::Test, 2);
    let mut animals: Vec<u32> = match repeated {
        true => (0..n).map(|_| s.below(n) as u32).collect(),
        false => (0..n as u32).filter(|_| s.uniform() < 0.8).collect(),
    };
    animals.sort_unstable();
    let real: Vec<f64> = animals.iter().map(|_| s.normal()).collect();
    let gradient = whole::round(&real, &Stream::new(number, Purpose::Rounding, 0));
    let mut columns = gradient.values;
    let mut units = Units { gradient: gradient.unit, weight: 1.0, mean_weight: 1.0 };
    if weighted {
        let weights: Vec<f64> = animals.iter().map(|_| 0.5 + s.uniform()).collect();
        let weight = whole::round(&weights, &Stream::new(number, Purpose::Rounding, 1));
        units = Units { weight: weight.unit, mean_weight: 1.0, ..units };
        columns.extend(weight.values);
    }
    Task { animals, columns, units, number }
}

/// A node of a tree grown by plain loops: its split and children, or its animals.
#[derive(Debug, PartialEq)]
enum Plain {
    Leaf(Vec<u32>),
    Split { snp: u32, cut: u8, missing_first: bool, first: Box<Plain>, second: Box<Plain> },
}

fn plain(
    packed: &Packed,
    task: &Task,
    rules: &Rules,
    rows: &[usize],
    depth: usize,
    drawn: &dyn Fn(u32) -> bool,
) -> Plain {
    let count = task.animals.len();
    let h = |r: usize| if task.columns.len() > count { i64::from(task.columns[count + r]) } else { 1 };
    let total = |rows: &mut dyn Iterator<Item = usize>| {
        rows.fold((0i64, 0i64), |(g, w), r| (g + i64::from(task.columns[r]), w + h(r)))
    };
    let units = task.units;
    let score = |(g, w): (i64, i64)| {
        let (g, w) = (g as f64 * units.gradient, w as f64 * units.weight);
        g * g / (w + rules.l2)
    };
    let all = total(&mut rows.iter().copied());
    let enough = |w: i64| w > 0 && w as f64 >= rules.min_animals * units.mean_weight / units.weight;
    let mut best: Option<(f64, u32, u8, bool)> = None;
    if depth < rules.depth && rows.len() >= 2 {
        for snp in (0..packed.columns() as u32).filter(|&snp| drawn(snp)) {
            let code = |r: usize| packed.get(task.animals[r] as usize, snp as usize);
            let missing = rows.iter().any(|&r| code(r) == MISSING && (task.columns[r] != 0 || h(r) != 0));
            for cut in [1, 2] {
                for missing_first in [true, false] {
                    let side = |r: usize| if code(r) == MISSING { missing_first } else { code(r) < cut };
                    let first = total(&mut rows.iter().copied().filter(|&r| side(r)));
                    let second = (all.0 - first.0, all.1 - first.1);
                    if !missing && missing_first != (first.1 >= second.1) || !enough(first.1.min(second.1)) {
                        continue;
                    }
                    let gain = 0.5 * (score(first) + score(second)) - 0.5 * score(all) - rules.gamma;
                    if gain > 0.0 && best.is_none_or(|(b, ..)| gain > b) {
                        best = Some((gain, snp, cut, missing_first));
                    }
                }
            }
        }
    }
    let Some((_, snp, cut, missing_first)) = best else {
        return Plain::Leaf(rows.iter().map(|&r| task.animals[r]).collect());
    };
    let split = Split { snp, cut, missing_first, gain: 0.0 };
    let is_first = |&&r: &&usize| split.is_first(packed.get(task.animals[r] as usize, snp as usize));
    let first: Vec<usize> = rows.iter().filter(is_first).copied().collect();
    let second: Vec<usize> = rows.iter().filter(|r| !is_first(r)).copied().collect();
    let below = |rows: &[usize]| Box::new(plain(packed, task, rules, rows, depth + 1, drawn));
    Plain::Split { snp, cut, missing_first, first: below(&first), second: below(&second) }
}

/// A grown tree in the same form.
fn as_plain(grown: &Grown, at: usize) -> Plain {
    match grown.tree.nodes[at].split {
        None => Plain::Leaf(grown.leaves.iter().find(|leaf| leaf.node == at).unwrap().learned.clone()),
        Some(Split { snp, cut, missing_first, .. }) => {
            let child = grown.tree.nodes[at].child as usize;
            let below = |at| Box::new(as_plain(grown, at));
            Plain::Split { snp, cut, missing_first, first: below(child), second: below(child + 1) }
        }
    }
}

#[test]
fn trees_are_those_of_plain_loops_in_any_order_on_every_backend() {
    let (n, m) = (230, 300);
    let packed = calls(n, m, 1);
    let tasks = [
        task(n, 0, false, false),
        task(n, 1, false, false),
        task(n, 2, true, false),
        task(n, 3, false, true),
    ];
    let snps: Vec<u32> = (0..m as u32).collect();
    for (backend, share) in [("cpu", 1.0), ("cpu", 0.99), ("reference", 1.0)] {
        let genotypes = genotypes(&packed, share, backend);
        for order in [Order::Levels, Order::Latest, Order::Best] {
            let found = grow(&genotypes, &snps, &tasks, (&ANY, order), 5).unwrap();
            for (grown, task) in found.iter().zip(&tasks) {
                let rows: Vec<usize> = (0..task.animals.len()).collect();
                let want = plain(&packed, task, &ANY, &rows, 0, &|_| true);
                assert_eq!(as_plain(grown, 0), want, "{backend} {share} {order:?} {}", task.number);
                assert!(grown.tree.nodes.len() > 9 && grown.tree.is_whole(m));
                let mut members: Vec<u32> = grown.leaves.iter().flat_map(|l| &l.members).copied().collect();
                members.sort_unstable();
                assert!(members == (0..n as u32).collect::<Vec<_>>(), "every animal comes to one leaf");
                for leaf in &grown.leaves {
                    let mut tree = grown.tree.clone();
                    tree.nodes[leaf.node].value = 1.0;
                    let comes = |i: u32| tree.value(|snp| packed.get(i as usize, snp as usize)) == 1.0;
                    assert!((0..n as u32).all(|i| comes(i) == leaf.members.binary_search(&i).is_ok()));
                }
            }
        }
    }
}

/// Questions behind the SNPs are asked as SNPs of the same calls are, and always.
#[test]
fn questions_about_features_are_split_by_as_snps_are() {
    let (n, m, questions) = (230, 300, 270);
    let packed = calls(n, m + questions, 6);
    let all: Vec<usize> = (0..n).collect();
    let of = |columns: std::ops::Range<usize>| packed.select(&all, &columns.collect::<Vec<_>>());
    let snps: Vec<u32> = (0..(m + questions) as u32).collect();
    let tasks = [task(n, 0, false, false), task(n, 2, true, true)];
    let rules = Rules { snp_share: 0.1, ..ANY };
    for share in [1.0, 0.99] {
        let beside = genotypes(&of(0..m), share, "cpu").beside(&of(m..m + questions));
        let every = Stream::new(1, Purpose::TreeSnps, 0);
        assert_eq!(beside.draw(&every, 1.0), snps);
        let found = grow(&beside, &snps, &tasks, (&ANY, Order::Levels), 5).unwrap();
        let want = grow(&genotypes(&packed, share, "cpu"), &snps, &tasks, (&ANY, Order::Levels), 5).unwrap();
        assert!(found.iter().zip(&want).all(|(a, b)| a.tree == b.tree));
        // A node that may look at few SNPs still looks at every question.
        let found = grow(&beside, &snps, &tasks[..1], (&rules, Order::Latest), 5).unwrap();
        let stream = Stream::new(5, Purpose::TreeSnps, 0);
        let rows: Vec<usize> = (0..tasks[0].animals.len()).collect();
        let asked = |snp: u32| snp >= m as u32 || is_drawn(&stream, snp, 0.1);
        let Rules { depth, .. } = rules;
        let want = plain(&packed, &tasks[0], &Rules { depth: 1, ..rules }, &rows, 0, &asked);
        let Plain::Split { snp, cut, .. } = want else { panic!("the root is split") };
        let root = found[0].tree.nodes[0].split.unwrap();
        assert!(depth > 1 && (root.snp, root.cut) == (snp, cut));
    }
}

#[test]
fn nodes_ask_about_the_snps_that_are_drawn_for_them() {
    let (n, m) = (150, 90);
    let packed = calls(n, m, 2);
    let genotypes = genotypes(&packed, 1.0, "cpu");
    let rules = Rules { snp_share: 0.2, depth: 1, ..ANY };
    let snps: Vec<u32> = (0..m as u32).collect();
    let tasks: Vec<Task> = (0..6).map(|number| task(n, number, false, false)).collect();
    for (grown, task) in
        grow(&genotypes, &snps, &tasks, (&rules, Order::Latest), 5).unwrap().iter().zip(&tasks)
    {
        let stream = Stream::new(5, Purpose::TreeSnps, task.number << 24);
        let rows: Vec<usize> = (0..task.animals.len()).collect();
        let want = plain(&packed, task, &rules, &rows, 0, &|snp| is_drawn(&stream, snp, 0.2));
        assert_eq!(as_plain(grown, 0), want);
    }
}

#[test]
fn few_leaves_are_those_that_gain_most() {
    let packed = calls(200, 60, 3);
    let genotypes = genotypes(&packed, 1.0, "cpu");
    let snps: Vec<u32> = (0..60).collect();
    let tasks = [task(200, 4, false, false)];
    let rules = Rules { leaves: 3, ..ANY };
    let few = grow(&genotypes, &snps, &tasks, (&rules, Order::Best), 5).unwrap().remove(0);
    let all = grow(&genotypes, &snps, &tasks, (&ANY, Order::Levels), 5).unwrap().remove(0);
    assert_eq!((few.leaves.len(), few.tree.nodes.len()), (3, 5));
    let gain = |at: usize| all.tree.nodes[at].split.map_or(0.0, |s| s.gain);
    let second = few.tree.nodes[1].split.is_none() as usize + 1;
    assert!(gain(second) >= gain(3 - second) && few.tree.nodes[second].split == all.tree.nodes[second].split);
}

#[test]
fn damaged_trees_are_told_apart() {
    let leaf = Node { split: None, child: 0, value: 1.0 };
    let split = Split { snp: 3, cut: 1, missing_first: false, gain: 1.0 };
    let root = Node { split: Some(split), child: 1, value: 0.0 };
    let tree = |nodes: &[Node]| Tree { nodes: nodes.to_vec() };
    assert!(tree(&[leaf]).is_whole(4) && tree(&[root, leaf, leaf]).is_whole(4));
    assert!(!tree(&[root, leaf, leaf]).is_whole(3), "a SNP that there is not");
    for nodes in [
        vec![],
        vec![root, leaf],
        vec![Node { child: 0, ..root }, leaf, leaf],
        vec![root, Node { child: 1, ..root }, leaf, leaf, leaf],
        vec![root, Node { child: 1, ..leaf }, leaf],
        vec![Node { split: Some(Split { cut: 3, ..split }), ..root }, leaf, leaf],
        vec![leaf, leaf, leaf],
    ] {
        assert!(!tree(&nodes).is_whole(4), "{nodes:?}");
    }
}

/// Records in units of their spread that follow from an interaction of two SNPs and from others.
fn records(packed: &Packed, seed: u64) -> Array2<f64> {
    let n = packed.rows();
    let mut s = Stream::new(seed, Purpose::Test, 3);
    let count = |i: usize, j: usize| f64::from(packed.get(i, j) % 3);
    let of = |i: usize| {
        let pair = if count(i, 5) > 0.5 && count(i, 40) > 0.5 { 2.0 } else { 0.0 };
        pair + (0..10).map(|j| 0.3 * count(i, 7 * j)).sum::<f64>()
    };
    let mut y: Vec<f64> = (0..n).map(|i| of(i) + 0.8 * s.normal()).collect();
    let (mean, sd) = (stats::mean(&y), stats::variance(&y).sqrt());
    y.iter_mut().for_each(|y| *y = (*y - mean) / sd);
    Array2::from_shape_vec((n, 1), y).unwrap()
}

/// Records without weights to learn from.
fn lesson<'a>(y: &'a Array2<f64>, train: &'a [usize], validation: &'a [usize]) -> Lesson<'a> {
    Lesson { y: y.view(), weights: None, train, validation, seed: 3, permuted: None }
}

#[test]
fn boosting_and_forests_predict_animals_that_they_did_not_see() {
    let packed = calls(900, 120, 7);
    let y = records(&packed, 1);
    let train: Vec<usize> = (0..600).collect();
    let validation: Vec<usize> = (600..660).collect();
    let lesson = lesson(&y, &train, &validation);
    let boosting = boosting::Config {
        rounds: 150,
        patience: 30,
        learning_rate: 0.05,
        l2: 1.0,
        ..boosting::Config::default()
    };
    let forest = forest::Config { trees: 60, ..forest::Config::default() };
    let tested = |values: &Array2<f64>| {
        let of = |x: &Array2<f64>| (660..900).map(|i| x[[i, 0]]).collect::<Vec<f64>>();
        stats::pearson(&of(values), &of(&y))
    };
    let boosted = boosting::fit(&genotypes(&packed, 0.2, "cpu"), &boosting, lesson, None).unwrap();
    assert!(tested(&boosted.values) > 0.6, "{}", tested(&boosted.values));
    let grown = forest::fit(&genotypes(&packed, 1.0, "cpu"), &forest, lesson, None).unwrap();
    assert!(tested(&grown.values) > 0.5, "{}", tested(&grown.values));
    for fitted in [&boosted, &grown] {
        for i in [0, 333, 899] {
            let code = |snp: u32| packed.get(i, snp as usize);
            let sum: f64 = fitted.trees[0].iter().map(|tree| tree.value(code)).sum();
            assert!(
                (sum - fitted.values[[i, 0]]).abs() < 1e-12,
                "trees say what was said of the data's animals"
            );
        }
    }
    // Out-of-bag values are as good as values of new animals, those of animals learned from better than they are.
    let bag = grown.out_of_bag.unwrap();
    let seen = |x: &Array2<f64>| {
        let of = |x: &Array2<f64>| train.iter().map(|&i| x[[i, 0]]).collect::<Vec<f64>>();
        stats::pearson(&of(x), &of(&y))
    };
    assert!((seen(&bag) - tested(&grown.values)).abs() < 0.12 && seen(&grown.values) > seen(&bag) + 0.2);
}

/// What exchanging calls costs, by the definition: every SNP's, and a feature's questions together.
#[test]
fn importance_by_permutation_is_what_exchanged_calls_cost() {
    let (n, m) = (300, 70);
    let packed = calls(n, m, 8);
    let mut y = records(&packed, 3);
    let heat: Vec<f64> =
        (0..n).map(|i| if i % 11 == 0 { f64::NAN } else { (i * 29 % 97) as f64 / 50.0 }).collect();
    y.iter_mut().zip(&heat).for_each(|(y, heat)| *y += if heat.is_nan() { 1.0 } else { *heat });
    let features = Features(vec![Feature { name: "heat".into(), values: Values::Numbers(heat) }]);
    let train: Vec<usize> = (0..n - 20).collect();
    let questions = Questions::of(&features, &train);
    let codes = questions.codes(&features, n).unwrap();
    let weights = Array2::from_shape_fn((n, 1), |(i, _)| 1.0 + (i % 3) as f64);
    let lesson = Lesson {
        weights: Some(weights.view()),
        seed: 4,
        permuted: Some(&questions),
        ..lesson(&y, &train, &[])
    };
    let config = forest::Config { trees: 2, ..forest::Config::default() };
    let share = 1.0;
    let found = forest::fit(&genotypes(&packed, share, "cpu").beside(&codes), &config, lesson, None).unwrap();
    let mut want = vec![0.0; m + 1];
    for (number, tree) in found.trees[0].iter().enumerate() {
        let mut drawn = Stream::new(4, Purpose::TreeAnimals, number as u64);
        let bag: Vec<usize> = (0..train.len()).map(|_| train[drawn.below(train.len())]).collect();
        let out: Vec<usize> = train.iter().copied().filter(|i| !bag.contains(i)).collect();
        let mut others = out.clone();
        Stream::new(4, Purpose::Exchange, (number as u64) << 16).shuffle(&mut others);
        let error = |unit: usize| -> f64 {
            let of = |(&i, &other): (&usize, &usize)| {
                let value = tree.value(|snp| match snp as usize {
                    snp if snp < m => packed.get(if unit == snp { other } else { i }, snp),
                    snp => codes.get(if unit == m { other } else { i }, snp - m),
                });
                weights[[i, 0]] * (y[[i, 0]] - 2.0 * value).powi(2)
            };
            out.iter().zip(&others).map(of).sum::<f64>() / out.iter().map(|&i| weights[[i, 0]]).sum::<f64>()
        };
        let before = error(usize::MAX);
        want.iter_mut().enumerate().for_each(|(unit, sum)| *sum += (error(unit) - before) / 2.0);
    }
    let found = found.permutation.unwrap();
    assert!(found.dim() == (m + 1, 1) && found.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12));
    assert!(want[m] > 0.1 && want.iter().filter(|x| **x != 0.0).count() > 10, "{want:?}");
}

#[test]
fn a_trait_stops_where_nothing_is_to_be_learned_and_leaves_the_others_alone() {
    let packed = calls(400, 80, 9);
    let mut s = Stream::new(1, Purpose::Test, 4);
    let noise = Array2::from_shape_simple_fn((400, 1), || s.normal());
    let signal = records(&packed, 2);
    let both = ndarray::concatenate(ndarray::Axis(1), &[noise.view(), signal.view()]).unwrap();
    let train: Vec<usize> = (0..300).collect();
    let validation: Vec<usize> = (300..400).collect();
    let config = boosting::Config {
        rounds: 100,
        patience: 10,
        learning_rate: 0.05,
        l2: 1.0,
        ..boosting::Config::default()
    };
    let genotypes = genotypes(&packed, 0.2, "cpu");
    let fit = |y: &Array2<f64>| {
        let lesson = lesson(y, &train, &validation);
        boosting::fit(&genotypes, &config, lesson, None).unwrap()
    };
    let two = fit(&both);
    assert!(two.trees[0].len() < 30 && two.trees[1].len() > two.trees[0].len(), "{:?}", two.trees[0].len());
    // What a trait learns does not depend on the traits behind it.
    assert_eq!(fit(&noise).trees[0], two.trees[0]);
}

#[test]
fn weights_count_like_repeated_records() {
    let packed = calls(300, 80, 11);
    let y = records(&packed, 4);
    let train: Vec<usize> = (0..300).collect();
    let weights = Array2::from_shape_fn((300, 1), |(i, _)| if i % 3 == 0 { 2.0 } else { 1.0 });
    let genotypes = genotypes(&packed, 1.0, "cpu");
    let config = boosting::Config {
        rounds: 1,
        depth: 1,
        row_share: 1.0,
        snp_share: 1.0,
        validation: 0.0,
        ..Default::default()
    };
    let lesson = Lesson { weights: Some(weights.view()), ..lesson(&y, &train, &[]) };
    let fitted = boosting::fit(&genotypes, &config, lesson, None).unwrap();
    let root = fitted.trees[0][0].nodes[0].split.unwrap();
    for (node, first) in [(1, true), (2, false)] {
        let (mut g, mut h) = (0.0, config.l2);
        for i in (0..300).filter(|&i| root.is_first(packed.get(i, root.snp as usize)) == first) {
            let w = weights[[i, 0]];
            g += w * y[[i, 0]];
            h += w;
        }
        let value = fitted.trees[0][0].nodes[node].value;
        assert!((value - config.learning_rate * g / h).abs() < 1e-12, "{value}");
    }
}
