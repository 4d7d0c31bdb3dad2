//! Launches of kernels, whose arguments are checked against what the kernel's own text declares: their number, their kind,
//! and whether they are written to.

use super::compile::{Source, HEADERS};
use super::gpu::{failed, Gpu};
use crate::error::Result;
use cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, CudaViewMut, LaunchArgs, LaunchConfig, PushKernelArg,
};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// What a kernel takes, or is given, at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    /// The element's type, as the kernels write it.
    of: String,
    pointer: bool,
    written: bool,
}

impl Parameter {
    fn number(of: &str) -> Parameter {
        Parameter { of: of.into(), pointer: false, written: false }
    }

    fn pointer(of: &str, written: bool) -> Parameter {
        Parameter { of: of.into(), pointer: true, written }
    }

    /// Whether this place may be given that: what is only lent for reading may not be written to.
    fn takes(&self, given: &Parameter) -> bool {
        self.of == given.of && self.pointer == given.pointer && (given.written || !self.written)
    }
}

impl Display for Parameter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let constant = if self.pointer && !self.written { "const " } else { "" };
        write!(f, "{constant}{}{}", self.of, if self.pointer { "*" } else { "" })
    }
}

/// A kernel that was loaded, and what it takes.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    function: CudaFunction,
    name: Arc<str>,
    parameters: Arc<[Parameter]>,
}

impl Kernel {
    /// A kernel of a file.
    pub(super) fn new(function: CudaFunction, source: &Source, name: &str) -> Kernel {
        let parameters = parameters(source.text, name);
        let parameters = parameters.unwrap_or_else(|| panic!("{} declares no kernel {name}", source.name));
        Kernel { function, name: name.into(), parameters: parameters.into() }
    }

    /// A launch, to which arguments are given one after the other.
    pub(super) fn launch<'a>(&'a self, gpu: &'a Gpu) -> Launch<'a> {
        Launch { arguments: gpu.stream().launch_builder(&self.function), kernel: self, given: 0 }
    }
}

/// A launch to which arguments are given.
pub(super) struct Launch<'a> {
    arguments: LaunchArgs<'a>,
    kernel: &'a Kernel,
    given: usize,
}

impl<'a> Launch<'a> {
    /// The next argument.
    ///
    /// # Panics
    /// When the kernel takes another kind there, or no more.
    pub(super) fn arg<T: Argument>(&mut self, argument: T) -> &mut Self
    where
        LaunchArgs<'a>: PushKernelArg<T>,
    {
        self.check(&T::parameter());
        self.arguments.arg(argument);
        self
    }

    /// No numbers where the kernel takes some to read.
    ///
    /// # Panics
    /// As [`Launch::arg`].
    pub(super) fn none(&mut self) -> &mut Self {
        static NONE: u64 = 0;
        self.check(&Parameter::pointer("float", false));
        self.arguments.arg(&NONE);
        self
    }

    fn check(&mut self, given: &Parameter) {
        let (name, number) = (&self.kernel.name, self.given);
        match self.kernel.parameters.get(number) {
            Some(taken) if taken.takes(given) => self.given += 1,
            Some(taken) => panic!("kernel {name} takes {taken} as argument {number} from 0, given {given}"),
            None => panic!("kernel {name} takes {number} arguments, given more"),
        }
    }

    /// Puts the launch in the stream.
    ///
    /// # Panics
    /// When arguments are missing.
    ///
    /// # Safety
    /// What the kernel reads and writes with this shape must lie within what it was given.
    pub(super) unsafe fn run(mut self, shape: LaunchConfig) -> Result<()> {
        let (name, all) = (&self.kernel.name, self.kernel.parameters.len());
        assert_eq!(self.given, all, "kernel {name} takes {all} arguments");
        // SAFETY: the arguments are those of the kernel in number and kind; the caller answers for what it does with
        // them.
        unsafe { self.arguments.launch(shape) }.map(|_| ()).map_err(|e| failed(name, e))
    }
}

/// What may be given to a kernel.
pub(super) trait Argument {
    /// Its kind.
    fn parameter() -> Parameter;
}

/// A number as the kernels write its type.
pub(super) trait Element {
    /// The type's name there.
    const NAME: &'static str;
}

macro_rules! elements {
    ($($rust:ty = $name:literal),*) => {$(
        impl Element for $rust {
            const NAME: &'static str = $name;
        }

        impl Argument for &$rust {
            fn parameter() -> Parameter {
                Parameter::number($name)
            }
        }
    )*};
}

elements!(
    f32 = "float",
    f64 = "double",
    i8 = "signed char",
    i32 = "int",
    i64 = "i64",
    u8 = "u8",
    u16 = "u16",
    u32 = "u32",
    u64 = "u64"
);

impl<T: Element> Argument for &CudaSlice<T> {
    fn parameter() -> Parameter {
        Parameter::pointer(T::NAME, false)
    }
}

impl<T: Element> Argument for &mut CudaSlice<T> {
    fn parameter() -> Parameter {
        Parameter::pointer(T::NAME, true)
    }
}

impl<T: Element> Argument for &CudaView<'_, T> {
    fn parameter() -> Parameter {
        Parameter::pointer(T::NAME, false)
    }
}

impl<T: Element> Argument for &mut CudaViewMut<'_, T> {
    fn parameter() -> Parameter {
        Parameter::pointer(T::NAME, true)
    }
}

/// What a kernel takes by its file's text and the headers; none where it is not there.
fn parameters(text: &str, name: &str) -> Option<Vec<Parameter>> {
    let declared = text.match_indices("KERNEL(").find_map(|(at, _)| {
        let (_, rest) = text[at..].split_once(')')?;
        let rest = rest.trim_start().strip_prefix(name)?.strip_prefix('(')?;
        rest.split_once(')').map(|(inside, _)| inside)
    })?;
    let mut found = Vec::new();
    read(text, declared, &mut found);
    Some(found)
}

/// Reads a list of parameters, in which names may stand for several.
fn read(text: &str, list: &str, found: &mut Vec<Parameter>) {
    let whole = list.replace(['\\', '\n'], " ");
    for one in whole.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        match one.rsplit_once([' ', '*']) {
            None => read(text, defined(text, one), found),
            Some((kind, _)) => {
                let pointer = one.contains('*');
                let of = kind.trim_end_matches('*').trim();
                let constant = of.strip_prefix("const ");
                let written = pointer && constant.is_none();
                let of = constant.unwrap_or(of).trim_end_matches('*').trim().to_owned();
                found.push(Parameter { of, pointer, written });
            }
        }
    }
}

/// What a name stands for in a file or the headers.
fn defined<'a>(text: &'a str, name: &str) -> &'a str {
    let define = format!("#define {name} ");
    let all = std::iter::once(text).chain(HEADERS.iter().map(|header| header.text));
    let after = all.filter_map(|text| text.split_once(&define)).map(|(_, rest)| rest).next();
    let rest = after.unwrap_or_else(|| panic!("{name} stands for no parameters"));
    // A line goes on after a backslash.
    let lines = rest.match_indices('\n').find(|(at, _)| !rest[..*at].ends_with('\\'));
    &rest[..lines.map_or(rest.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, name: &str) -> String {
        let all = parameters(text, name).unwrap();
        all.iter().map(Parameter::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn parameters_are_those_of_the_text() {
        let text = "#define BOTH const float* a, \\\n    i64 n\n#define MORE BOTH, int onto\n\
                    KERNEL(256) first(MORE, float* out) {\n}\n\
                    KERNEL(128, 2) second(const signed char* bytes, const i64* items,\n   u16* to, double x) {\n";
        assert_eq!(told(text, "first"), "const float*, i64, int, float*");
        assert_eq!(told(text, "second"), "const signed char*, const i64*, u16*, double");
        assert!(parameters(text, "fir").is_none() && parameters(text, "third").is_none());
        let noise = include_str!("../../../kernels/random.cu");
        assert_eq!(told(noise, "dropout"), "u64, u32, u64, i64, i64, i64, i64, u32, float, float*");
    }

    #[test]
    fn what_is_lent_for_reading_is_not_written_to() {
        let (read, written) = (Parameter::pointer("float", false), Parameter::pointer("float", true));
        assert!(read.takes(&read) && read.takes(&written) && written.takes(&written));
        assert!(!written.takes(&read) && !read.takes(&Parameter::pointer("double", true)));
        assert!(!read.takes(&Parameter::number("float")) && !read.takes(&Parameter::number("u64")));
    }
}
