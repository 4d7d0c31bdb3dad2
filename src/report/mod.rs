//! What people look at: tables, pictures, the run record, the report page. Computes nothing.

pub mod html;
pub mod picture;
pub mod record;
pub mod table;
pub mod study;
pub mod methods;
mod answer;
pub mod page;
pub mod fidelity;
