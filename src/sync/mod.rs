//! The lock, the threads and the clock: the system's, or those of a model checker that explores schedules.

#[cfg(all(test, shuttle))]
mod model;
#[cfg(not(all(test, shuttle)))]
mod real;

#[cfg(all(test, shuttle))]
pub(crate) use model::*;
#[cfg(not(all(test, shuttle)))]
pub(crate) use real::*;
