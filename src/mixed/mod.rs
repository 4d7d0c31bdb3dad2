//! Linear mixed models: y = Wb + Zu + e, u ~ N(0, σ²g G), e ~ N(0, σ²e diag(1/w)).
//!
//! Everything is written in h² and the total variance, V = σ²p (h² G + (1 − h²) diag(1/w)) = σ²p A(h²), so that
//! no case is special at h² = 0, and σ²p drops out of all predictions. With P = A⁻¹ − A⁻¹W(W'A⁻¹W)⁻¹W'A⁻¹ the
//! solvers give x = P y; then V⁻¹(y − Wb̂) = x / σ²p, û = h² G x and b̂ from Wb̂ = y − A x.

pub mod alike;
pub mod checkpoint;
pub mod covariances;
pub mod formula;
pub mod gblup;
pub mod grid;
pub mod group;
mod kernel;
pub mod large;
pub mod model;
pub mod multitrait;
pub mod plan;
pub mod reliability;
pub mod reml;
pub mod solve;
pub mod system;

pub use group::Group;
pub use reml::{Estimate, Outcome};

#[cfg(test)]
mod alike_tests;
#[cfg(test)]
mod tests;
