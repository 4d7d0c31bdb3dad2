//! Networks in files, the same for all kinds: the group of a network holds its tensors by name,
//! `parameters/LAYER.{weight,features,conditions,bias,shift,scale}` (rows, columns), and of its batch normalisations
//! `running/NUMBER.{mean,variance}` (h). What the layers are stands beside as JSON: `architecture` or `plan`.

use super::running::Running;
use super::stack::Part;
use crate::error::Result;
use crate::hdf::{Group, GroupWriter, Number};
use ndarray::ArrayView2;

/// Writes a network whose tensors lie one after the other in `parameters`, as `parts` says.
///
/// # Errors
/// What the disk meets.
pub fn write<T: Number>(
    file: &GroupWriter,
    parts: &[Part],
    parameters: &[T],
    running: &[Running],
) -> Result<()> {
    let group = file.group("parameters")?;
    for part in parts {
        let values = ArrayView2::from_shape((part.rows(), part.columns), &parameters[part.range.clone()]);
        group.matrix(&part.name, values.expect("a tensor has rows and columns"))?;
    }
    let group = file.group("running")?;
    for (number, moments) in running.iter().enumerate() {
        group.list(&format!("{number}.mean"), &moments.mean)?;
        group.list(&format!("{number}.variance"), &moments.variance)?;
    }
    Ok(())
}

/// What [`write()`] wrote: all parameters one after the other, and the running moments of layers with batch normalisation
/// of these `widths`. No tensor is read whose shape is another.
///
/// # Errors
/// A tensor that is missing or has another shape, as [`crate::error::Error::Input`].
pub fn read<T: Number>(file: &Group, parts: &[Part], widths: &[usize]) -> Result<(Vec<T>, Vec<Running>)> {
    let group = file.group("parameters")?;
    let mut parameters = Vec::new();
    for part in parts {
        if group.shape(&part.name)? != [part.rows(), part.columns] {
            return Err(file.damaged(&format!("{} of another shape", part.name)));
        }
        parameters.extend(group.matrix::<T>(&part.name)?);
    }
    let group = file.group("running")?;
    let list = |name: String, width: usize| match group.shape(&name)? == [width] {
        true => group.list::<f64>(&name),
        false => Err(file.damaged(&format!("running/{name} of another length"))),
    };
    let moments = widths.iter().enumerate().map(|(number, &width)| {
        let (mean, variance) =
            (list(format!("{number}.mean"), width)?, list(format!("{number}.variance"), width)?);
        Ok(Running { mean, variance })
    });
    Ok((parameters, moments.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hdf::{Format, Reader, Writer};
    use crate::nn::stack::{Plan, Step};
    use crate::nn::Normalisation;

    static FORMAT: Format = Format { name: "genialearn-test", version: 1, what: "a test", advice: "none" };

    #[test]
    fn tensors_come_back_by_name_and_others_are_refused() {
        let steps = vec![
            Step::Linear { units: 3, bias: false, conditions: true },
            Step::Normalise(Normalisation::Batch),
            Step::linear(2),
        ];
        let plan = Plan { snps: None, inputs: 4, conditions: 1, steps };
        let parts = plan.parts().unwrap();
        let parameters: Vec<f32> = (0..plan.parameters().unwrap()).map(|x| x as f32).collect();
        let running = [Running { mean: vec![1.0, 2.0, 3.0], variance: vec![4.0, 5.0, 6.0] }];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.h5");
        let file = Writer::create(&path, false, &FORMAT).unwrap();
        write(file.root(), &parts, &parameters, &running).unwrap();
        file.close().unwrap().seal(0..0).unwrap();
        let reader = Reader::open(&path, &FORMAT).unwrap();
        let found = read::<f32>(reader.root(), &parts, &[3]).unwrap();
        assert_eq!(found, (parameters, running.to_vec()));
        let names: Vec<String> = reader.root().datasets().unwrap().keys().cloned().collect();
        assert!(names.contains(&"parameters/0.conditions".to_owned()), "{names:?}");
        let wider = Plan { inputs: 5, ..plan.clone() }.parts().unwrap();
        let refused = |parts: &[Part], widths: &[usize]| {
            read::<f32>(reader.root(), parts, widths).unwrap_err().to_string()
        };
        assert!(refused(&wider, &[3]).contains("0.weight of another shape"));
        assert!(refused(&parts, &[4]).contains("running/0.mean of another length"));
        assert!(refused(&parts, &[3, 3]).contains("1.mean"));
    }
}
