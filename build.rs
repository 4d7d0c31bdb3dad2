//! Finds ScaLAPACK, built for the same MPI as the program.

use std::process::Command;

/// Overrides the search: a library's name, such as `scalapack`.
const NAME: &str = "SCALAPACK_LIB";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in [NAME, "MPICC", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if let Ok(library) = std::env::var(NAME) {
        println!("cargo:rustc-link-lib={library}");
        return;
    }
    let names =
        if mpi_is_mpich() { ["scalapack-mpich", "scalapack"] } else { ["scalapack-openmpi", "scalapack"] };
    for name in names {
        if let Some(folders) = pkg_config(name).or_else(|| usual_folder(name)) {
            folders.iter().for_each(|folder| println!("cargo:rustc-link-search=native={folder}"));
            println!("cargo:rustc-link-lib={name}");
            return;
        }
    }
    let advice = "install libscalapack-openmpi-dev (`make deps` does), or give its library's name in";
    panic!("ScaLAPACK was not found: {advice} {NAME}");
}

/// Whether the MPI that `mpi-sys` builds with is MPICH or one of its kin.
fn mpi_is_mpich() -> bool {
    let compiler = std::env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    let shown = Command::new(compiler).arg("-show").output();
    shown.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("mpich"))
}

/// The folders that `pkg-config` gives for a library; nothing when it does not know it.
fn pkg_config(name: &str) -> Option<Vec<String>> {
    let tool = std::env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let out = Command::new(tool).args(["--variable=libdir", name]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    out.status
        .success()
        .then(|| text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect())
}

/// The folder of a library that pkg-config does not know, where libraries usually stand.
fn usual_folder(name: &str) -> Option<Vec<String>> {
    let target = std::env::var("TARGET").unwrap_or_default().replace("-unknown", "");
    let folders =
        [format!("/usr/lib/{target}"), "/usr/lib64".into(), "/usr/lib".into(), "/usr/local/lib".into()];
    let has = |folder: &String| std::path::Path::new(folder).join(format!("lib{name}.so")).exists();
    folders.into_iter().find(has).map(|folder| vec![folder])
}
