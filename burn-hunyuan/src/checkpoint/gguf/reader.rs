//! The values of a GGUF header.

/// A value of the header; texts and floats are passed over.
pub(super) enum Value {
    Number(u64),
    Numbers(Vec<u64>),
    Other,
}

impl Value {
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn numbers(&self) -> Option<&[u64]> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }
}

/// Reads little-endian values in order; nothing beyond the end.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// Numbers of the types in a header.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.position.checked_add(len);
        let bytes = end.and_then(|end| self.bytes.get(self.position..end));
        let bytes = bytes.ok_or("its header is cut short; download it again")?;
        self.position += len;
        Ok(bytes)
    }

    /// An unsigned number of `len` bytes, at most 8.
    fn number(&mut self, len: usize) -> Result<u64, String> {
        let mut wide = [0; 8];
        wide[..len].copy_from_slice(self.bytes(len)?);
        Ok(u64::from_le_bytes(wide))
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        Ok(self.number(4)? as u32)
    }

    pub fn usize(&mut self) -> Result<usize, String> {
        usize::try_from(self.number(8)?).map_err(|e| e.to_string())
    }

    pub fn string(&mut self) -> Result<String, String> {
        let len = self.usize()?;
        String::from_utf8(self.bytes(len)?.to_vec()).map_err(|e| e.to_string())
    }

    /// A value of the type `kind`.
    pub fn value(&mut self, kind: u32) -> Result<Value, String> {
        match kind {
            STRING => self.string().map(|_| Value::Other),
            ARRAY => {
                let kind = self.u32()?;
                let len = self.usize()?;
                let mut numbers = Vec::new();
                for _ in 0..len {
                    match self.element(kind)? {
                        Value::Number(number) => numbers.push(number),
                        _ => numbers.clear(),
                    }
                }
                Ok(Value::Numbers(numbers))
            }
            _ => self.element(kind),
        }
    }

    /// A value that is no array: an array of arrays is not in use.
    fn element(&mut self, kind: u32) -> Result<Value, String> {
        let len = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4 | 5 => 4,
            10 | 11 => 8,
            6 => return self.bytes(4).map(|_| Value::Other),
            12 => return self.bytes(8).map(|_| Value::Other),
            STRING => return self.string().map(|_| Value::Other),
            kind => return Err(format!("its header has a value of unknown type {kind}")),
        };
        self.number(len).map(Value::Number)
    }
}
