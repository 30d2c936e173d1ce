//! The block that says what a library is before any of its code runs.

/// The first bytes of a [`Meta`].
pub const MAGIC: [u8; 16] = *b"zoo plugin meta\n";
/// Room for the JSON of a [`Meta`].
pub const META_LEN: usize = 992;

/// What a library says of itself. It holds no pointers, so that it can be read from the file.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// [`MAGIC`].
    pub magic: [u8; 16],
    /// The [`MAJOR`](super::MAJOR) that it was built against.
    pub major: u32,
    /// The [`MINOR`](super::MINOR) that it was built against.
    pub minor: u32,
    /// Bytes of JSON.
    pub len: u32,
    /// 0.
    pub reserved: u32,
    /// An object: `package`, `version`, `sdk`, and `requires`, the names of host features that it cannot do without.
    pub json: [u8; META_LEN],
}

impl Meta {
    /// For [`export_plugin!`](crate::export_plugin): the block of a package, at compile time.
    ///
    /// # Panics
    /// Where the JSON does not fit, which stops the compilation.
    pub const fn new(package: &str, version: &str) -> Self {
        let mut meta = Self {
            magic: MAGIC,
            major: super::MAJOR,
            minor: super::MINOR,
            len: 0,
            reserved: 0,
            json: [0; META_LEN],
        };
        meta = meta.with("{\"package\":\"").with(package);
        meta = meta.with("\",\"version\":\"").with(version);
        meta = meta.with("\",\"sdk\":\"").with(env!("CARGO_PKG_VERSION"));
        meta.with("\",\"requires\":[]}")
    }

    const fn with(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            assert!(
                bytes[i] != b'\\' && bytes[i] >= b' ',
                "names and versions of packages are plain text"
            );
            self.json[self.len as usize] = bytes[i];
            self.len += 1;
            i += 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_json() {
        let meta = Meta::new("my-gan", "1.2.3");
        let json: serde_json::Value =
            serde_json::from_slice(&meta.json[..meta.len as usize]).unwrap();
        assert_eq!(json["package"], "my-gan");
        assert_eq!(json["version"], "1.2.3");
        assert_eq!(json["requires"], serde_json::json!([]));
    }
}
