//! Monitors as real processes, on real FIFOs, with a shim played by the test.

#[cfg(test)]
mod binary;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod end_of_stream;
#[cfg(test)]
mod log_file;
#[cfg(test)]
mod rig;
