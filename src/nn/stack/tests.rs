//! Gradients by finite differences in f64, of every step, residual blocks and conditions included.

use super::*;
use crate::device::open;
use crate::nn::Normalisation;
use crate::rng::{Purpose, Stream};

/// Rows, inputs, conditions.
const SHAPE: (usize, usize, usize) = (7, 5, 2);

fn numbers(length: usize, index: u64) -> Vec<f64> {
    let mut s = Stream::new(31, Purpose::Test, index);
    (0..length).map(|_| s.normal()).collect()
}

fn linear(units: usize, conditions: bool) -> Step {
    Step::Linear { units, bias: true, conditions }
}

/// A residual block: linear, normalisation, activation, linear, normalisation, sum, activation.
fn block(units: usize, conditions: bool, kind: Normalisation) -> Vec<Step> {
    let (normal, leaky) = (Step::Normalise(kind), Step::leaky_relu(0.05));
    vec![Step::Keep, linear(units, conditions), normal, leaky, linear(units, false), normal, Step::Add, leaky]
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan { snps: None, inputs: SHAPE.1, conditions: SHAPE.2, steps }
}

/// Chains whose activations are piecewise linear, without normalisation.
fn critics() -> Vec<Plan> {
    let none = Normalisation::None;
    let leaky = Step::leaky_relu(0.2);
    vec![
        plan(vec![linear(3, false)]),
        plan(vec![Step::Offset, leaky, linear(6, true), leaky, linear(1, false)]),
        plan(
            [vec![leaky], block(5, true, none), vec![linear(4, true), leaky], vec![linear(1, false)]]
                .concat(),
        ),
        plan(
            [
                vec![Step::Keep, Step::Keep, leaky, Step::Add, linear(5, true), Step::Add],
                vec![linear(1, true)],
            ]
            .concat(),
        ),
    ]
}

/// Those, and chains with every kind of step.
fn plans() -> Vec<Plan> {
    let (batch, layer) = (Normalisation::Batch, Normalisation::Layer);
    let gelu = Step::Activate(Activation::Gelu);
    let without = Step::Linear { units: 6, bias: false, conditions: true };
    let more = vec![
        plan(
            [vec![without, Step::Normalise(batch), gelu], block(6, true, batch), vec![linear(4, true)]]
                .concat(),
        ),
        plan(
            [block(5, false, layer), vec![linear(4, true), Step::Normalise(layer), gelu, linear(2, false)]]
                .concat(),
        ),
        plan(
            [vec![Step::Keep, gelu], block(5, true, batch), vec![Step::Normalise(layer), Step::Add]].concat(),
        ),
        // What is kept may not be overwritten.
        plan(
            [
                vec![linear(5, false), Step::Keep, Step::Normalise(batch)],
                vec![gelu, Step::Add, linear(2, false)],
            ]
            .concat(),
        ),
        plan(vec![linear(5, true), Step::Normalise(batch), Step::Keep, Step::Normalise(layer), Step::Add]),
    ];
    [critics(), more].concat()
}

struct Case {
    stack: Stack,
    ranks: Ranks,
    pass: Pass,
    input: Vec<f64>,
}

impl Case {
    fn new(name: &str, plan: &Plan) -> Case {
        let device = open(name).unwrap();
        let mut stack = Stack::new(&device, plan, 5, 0).unwrap();
        // Away from zeros and ones, so that every term counts.
        let mut w = vec![0.0; stack.parameters.len()];
        device.read(stack.parameters.whole(), &mut w).unwrap();
        w.iter_mut().zip(numbers(stack.parameters.len(), 1)).for_each(|(w, e)| *w += 0.1 * e);
        device.write(&w, stack.parameters.whole_mut()).unwrap();
        let rows = SHAPE.0;
        let pass = Pass::new(&stack, Use { tangents: rows, ..Use::learn(rows) }).unwrap();
        Case { stack, ranks: Ranks::alone(&device), pass, input: numbers(rows * SHAPE.1, 2) }
    }

    fn read(&self, values: &Values) -> Vec<f64> {
        let mut out = vec![0.0; values.len()];
        self.stack.device().read(values.whole(), &mut out).unwrap();
        out
    }

    /// What the chain gives.
    fn forward(&mut self) -> Vec<f64> {
        let device = self.stack.device().clone();
        device.write(&self.input, self.pass.input_mut().whole_mut()).unwrap();
        device.write(&numbers(SHAPE.0 * SHAPE.2, 3), self.pass.conditions_mut().whole_mut()).unwrap();
        let (all, mode) = (Batch::of_rows(SHAPE.0, SHAPE.0), Mode::Train { seed: 1, step: 0 });
        self.stack.forward(&self.ranks, &all, mode, &mut self.pass).unwrap();
        self.read(self.pass.output())
    }

    fn backward(&mut self, slope: &[f64], learn: Option<Range<usize>>) {
        let device = self.stack.device().clone();
        device.write(slope, self.pass.slope_mut().whole_mut()).unwrap();
        let (all, mode) = (Batch::of_rows(SHAPE.0, SHAPE.0), Mode::Train { seed: 1, step: 0 });
        self.stack.backward(&self.ranks, &all, mode, learn, &mut self.pass).unwrap();
        self.stack.sum_gradient(&self.ranks, &mut self.pass).unwrap();
    }

    /// Σ y²/2 + Σ a y.
    fn loss(&mut self) -> f64 {
        let y = self.forward();
        y.iter().zip(numbers(y.len(), 4)).map(|(y, a)| y * y / 2.0 + a * y).sum()
    }

    /// Its gradient by the parameters, and by the input.
    fn gradient(&mut self) -> (Vec<f64>, Vec<f64>) {
        let y = self.forward();
        let slope: Vec<f64> = y.iter().zip(numbers(y.len(), 4)).map(|(y, a)| y + a).collect();
        self.backward(&slope, Some(0..SHAPE.0));
        (self.read(self.pass.gradient()), self.read(self.pass.input_slope()))
    }

    /// P = mean (‖g_b‖ − 1)² with g = ∂ΣD/∂x of the rows, and the directions ∂P/∂g.
    fn penalty(&mut self) -> (f64, Vec<f64>) {
        let outputs = self.forward().len();
        self.backward(&numbers(outputs, 6), None);
        let mut directions = self.read(self.pass.input_slope());
        let mut total = 0.0;
        for g in directions.chunks_exact_mut(SHAPE.1) {
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            total += (norm - 1.0).powi(2) / SHAPE.0 as f64;
            g.iter_mut().for_each(|g| *g *= 2.0 / SHAPE.0 as f64 * (norm - 1.0) / norm);
        }
        (total, directions)
    }

    /// The slope of a function of the parameters by number `at` of them.
    fn by_parameter(&mut self, at: usize, of: impl Fn(&mut Case) -> f64) -> f64 {
        let device = self.stack.device().clone();
        let here = self.read(&self.stack.parameters);
        let mut moved = |step: f64| {
            let mut w = here.clone();
            w[at] += step;
            device.write(&w, self.stack.parameters.whole_mut()).unwrap();
            of(self)
        };
        let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        moved(0.0);
        slope
    }
}

fn near(found: &[f64], at: usize, slope: f64, what: &str) {
    let largest = found.iter().fold(0.0f64, |a, g| a.max(g.abs()));
    let most = 1e-6 * found[at].abs() + 1e-8 * largest.max(1e-3);
    assert!((found[at] - slope).abs() < most, "{what} [{at}]: {}, slope {slope}", found[at]);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for plan in plans() {
        let mut case = Case::new("strict", &plan);
        let (by_parameters, by_input) = case.gradient();
        for at in 0..by_parameters.len() {
            let slope = case.by_parameter(at, Case::loss);
            near(&by_parameters, at, slope, &format!("{plan:?}"));
        }
        for at in 0..by_input.len() {
            let here = case.input[at];
            let mut moved = |step: f64| {
                case.input[at] = here + step;
                case.loss()
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            case.input[at] = here;
            near(&by_input, at, slope, &format!("input of {plan:?}"));
        }
    }
}

#[test]
fn the_tangent_pass_gives_the_gradient_of_the_penalty() {
    for plan in critics() {
        let mut case = Case::new("strict", &plan);
        let (penalty, directions) = case.penalty();
        let device = case.stack.device().clone();
        device.fill(0.0, case.pass.gradients[0].whole_mut()).unwrap();
        device.write(&directions, case.pass.tangent_mut().whole_mut()).unwrap();
        case.stack.tangent(0..SHAPE.0, &mut case.pass).unwrap();
        let found = case.read(case.pass.gradient());
        assert!(penalty > 0.01 && found.iter().any(|g| g.abs() > 1e-3));
        for at in 0..found.len() {
            let slope = case.by_parameter(at, |case| case.penalty().0);
            near(&found, at, slope, &format!("penalty of {plan:?}"));
        }
    }
    let mut smooth = Case::new("strict", &plans()[4]);
    assert!(smooth.stack.tangent(0..2, &mut smooth.pass).is_err());
}

#[test]
fn rows_that_do_not_learn_leave_no_trace_in_the_gradient() {
    let plan = &critics()[2];
    let mut case = Case::new("strict", plan);
    let outputs = case.forward().len();
    let mut slope = numbers(outputs, 9);
    case.backward(&slope, Some(2..5));
    let some = case.read(case.pass.gradient());
    slope[..2].fill(0.0);
    slope[5..].fill(0.0);
    case.backward(&slope, Some(0..SHAPE.0));
    let all = case.read(case.pass.gradient());
    assert!(some.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b.abs())));
}

#[test]
fn other_backends_give_what_the_reference_gives() {
    for plan in plans() {
        let (want, _) = Case::new("reference", &plan).gradient();
        let largest = want.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        for name in ["strict", "cpu", "cuda"] {
            if open(name).is_err() {
                continue;
            }
            let mut case = Case::new(name, &plan);
            let precision = case.stack.device().precision();
            let (found, _) = case.gradient();
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 2000.0 * precision * largest;
            assert!(!want.iter().zip(&found).any(far), "{name}: {plan:?}");
        }
    }
}

#[test]
fn running_moments_follow_and_serve_predictions() {
    let steps = vec![linear(3, false), Step::Normalise(Normalisation::Batch)];
    let mut case = Case::new("strict", &plan(steps));
    for _ in 0..300 {
        case.forward();
    }
    let learnt = case.forward();
    case.stack
        .forward(&case.ranks, &Batch::of_rows(SHAPE.0, SHAPE.0), Mode::Predict, &mut case.pass)
        .unwrap();
    let used = case.read(case.pass.output());
    // The running variance is that of a sample: n/(n − 1) times the batch's own.
    let factor = (1.0f64 - 1.0 / SHAPE.0 as f64).sqrt();
    let of_shift = case.read(&case.stack.parameters);
    let shift = &of_shift[case.stack.parts()[2].range.clone()];
    for (at, (a, b)) in learnt.iter().zip(&used).enumerate() {
        assert!(((a - shift[at % 3]) * factor - (b - shift[at % 3])).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn first_weights_have_the_variance_of_he() {
    let device = open("reference").unwrap();
    let of = |stream: u64| {
        let steps = vec![linear(50, true), Step::leaky_relu(0.0), linear(40, false)];
        let plan = Plan { snps: None, inputs: 30, conditions: 10, steps };
        let stack = Stack::new(&device, &plan, 5, stream).unwrap();
        let mut w = vec![0.0; stack.parameters.len()];
        device.read(stack.parameters.whole(), &mut w).unwrap();
        w
    };
    let w = of(0);
    let variance = |part: &[f64]| crate::stats::variance(part);
    assert!((variance(&w[..1500]) * 40.0 / 2.0 - 1.0).abs() < 0.15);
    assert!((variance(&w[1500..2000]) * 40.0 / 2.0 - 1.0).abs() < 0.25);
    assert!(w[2000..2050].iter().all(|&b| b == 0.0));
    assert!((variance(&w[2050..4050]) * 50.0 - 1.0).abs() < 0.15);
    assert_ne!(w, of(100));
}
