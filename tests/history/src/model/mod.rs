//! What single objects do when nobody disturbs them: the models that histories
//! are judged against.

pub mod cas;
pub mod counter;
pub mod register;
pub mod set;

pub use cas::Cas;
pub use counter::Counter;
pub use register::Register;
pub use set::Set;
