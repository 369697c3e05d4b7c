//! stub
pub(crate) struct Mode;
pub(crate) fn parse(_: &[std::ffi::OsString]) -> Result<Mode, String> {
    Err("not built".into())
}
