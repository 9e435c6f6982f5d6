//! The pickles of `torch.save`, as far as a dictionary of tensors needs them: for files with float8
//! weights, which `pytorch-reader` refuses.
//!
//! A pickle is a program for a machine with a stack. This one knows the opcodes that PyTorch writes
//! (protocol 2), builds dictionaries, tuples and descriptions of tensors, and calls nothing: what any
//! other function would return is [`Value::Other`].

use std::{collections::HashMap, sync::Arc};

/// A tensor as a pickle describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    /// The entry below `data/` with its bytes.
    pub storage: Arc<str>,
    /// Elements before its first.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    /// `float8_e4m3fn`, `BFloat16Storage`, …: PyTorch's name of the number format.
    pub format: Arc<str>,
}

/// What stands on the stack.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Mark,
    Integer(usize),
    Text(Arc<str>),
    Tuple(Vec<Value>),
    Dictionary(Vec<(Value, Value)>),
    /// A class or function, by its name without the module.
    Global(Arc<str>),
    /// The bytes of tensors: format, where the class tells it, and key.
    Storage(Arc<str>, Arc<str>),
    Tensor(Described),
    Other,
}

/// How deep values nest that make up dictionaries of tensors. A hostile pickle nests without end.
const DEPTH: usize = 4;
/// The longest tuple that is asked for again. A hostile one is copied without end.
const REMEMBERED: usize = 16;

impl Value {
    fn depth(&self) -> usize {
        match self {
            Self::Tuple(values) => 1 + values.iter().map(Self::depth).max().unwrap_or(0),
            Self::Dictionary(entries) => {
                let depths = entries.iter().map(|(_, value)| value.depth());
                1 + depths.max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn tuple(values: Vec<Self>) -> Self {
        if values.iter().any(|value| value.depth() >= DEPTH) {
            return Self::Other;
        }
        Self::Tuple(values)
    }
}

/// The tensors of a pickled dictionary and the dictionaries in it, by names joined with dots.
///
/// # Errors
/// What is wrong with the pickle.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<(String, Described)>, String> {
    let mut found = Vec::new();
    collect(Machine::new(pickle).run()?, "", &mut found);
    Ok(found)
}

fn collect(value: Value, name: &str, found: &mut Vec<(String, Described)>) {
    match value {
        Value::Tensor(tensor) => found.push((name.to_string(), tensor)),
        Value::Dictionary(entries) => {
            for (key, value) in entries {
                if let Value::Text(key) = key {
                    let dot = if name.is_empty() { "" } else { "." };
                    collect(value, &format!("{name}{dot}{key}"), found);
                }
            }
        }
        _ => (),
    }
}

struct Machine<'a> {
    /// What has not been read.
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
}

impl<'a> Machine<'a> {
    fn new(pickle: &'a [u8]) -> Self {
        Self {
            rest: pickle,
            stack: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs to the end; opcodes are named as in CPython's `pickletools`.
    fn run(mut self) -> Result<Value, String> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),                                  // STOP
                0x80 => drop(self.byte()?),                                 // PROTO
                b'(' => self.stack.push(Value::Mark),                       // MARK
                b'}' => self.stack.push(Value::Dictionary(vec![])),         // EMPTY_DICT
                b')' => self.stack.push(Value::Tuple(vec![])),              // EMPTY_TUPLE
                b'N' | 0x88 | 0x89 | b']' => self.stack.push(Value::Other), // NONE, …, EMPTY_LIST
                b'0' => drop(self.pop()?),                                  // POP
                b'K' => self.integer(1)?,                                   // BININT1
                b'M' => self.integer(2)?,                                   // BININT2
                b'J' => self.integer(4)?,                                   // BININT
                0x8a => {
                    let length = self.byte()?; // LONG1
                    self.integer(length.into())?;
                }
                b'G' => {
                    self.bytes(8)?; // BINFLOAT
                    self.stack.push(Value::Other);
                }
                b'X' => {
                    let length = self.number(4)?; // BINUNICODE
                    let text = String::from_utf8_lossy(self.bytes(length)?);
                    self.stack.push(Value::Text(text.into()));
                }
                b'c' => {
                    self.line()?; // GLOBAL: a module, a name
                    let name = self.line()?;
                    self.stack.push(Value::Global(name.into()));
                }
                b'q' => self.remember(1)?, // BINPUT
                b'r' => self.remember(4)?, // LONG_BINPUT
                b'h' => self.recall(1)?,   // BINGET
                b'j' => self.recall(4)?,   // LONG_BINGET
                b't' => {
                    let values = self.above_mark()?; // TUPLE
                    self.stack.push(Value::tuple(values));
                }
                count @ 0x85..=0x87 => {
                    let count = usize::from(count - 0x84); // TUPLE1, TUPLE2, TUPLE3
                    let start = self.stack.len().checked_sub(count).ok_or(EMPTY)?;
                    let values = self.stack.split_off(start);
                    self.stack.push(Value::tuple(values));
                }
                b'Q' => {
                    let id = self.pop()?; // BINPERSID
                    self.stack.push(storage(id));
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?); // REDUCE
                    self.stack.push(call(function, arguments));
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?); // SETITEM
                    self.set(vec![key, value]);
                }
                b'u' => {
                    let values = self.above_mark()?; // SETITEMS
                    self.set(values);
                }
                b'a' => drop(self.pop()?), // APPEND, to a list: of no use here
                b'e' => drop(self.above_mark()?), // APPENDS
                b'b' => drop(self.pop()?), // BUILD: attributes
                other => return Err(format!("the opcode {other:#x} is not known")),
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or("it is cut short")?;
        self.rest = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.bytes(1)?[0])
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Result<usize, String> {
        let bytes = self.bytes(bytes)?;
        if bytes.len() > size_of::<usize>() {
            return Err("a number is too large".into());
        }
        let number = bytes.iter().rev();
        Ok(number.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let line = self.bytes(end.ok_or("it is cut short")?)?;
        self.bytes(1)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn integer(&mut self, bytes: usize) -> Result<(), String> {
        let number = self.number(bytes)?;
        self.stack.push(Value::Integer(number));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        Ok(self.stack.pop().ok_or(EMPTY)?)
    }

    /// Takes everything above the last mark, and the mark.
    fn above_mark(&mut self) -> Result<Vec<Value>, String> {
        let is_mark = |value: &Value| *value == Value::Mark;
        let mark = self.stack.iter().rposition(is_mark).ok_or(EMPTY)?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn remember(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)? as u32;
        let value = match self.stack.last().ok_or(EMPTY)? {
            // Filled later, and never asked for again.
            Value::Dictionary(_) => Value::Other,
            Value::Tuple(values) if values.len() > REMEMBERED => Value::Other,
            value => value.clone(),
        };
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)? as u32;
        let value = self.memo.get(&key);
        self.stack
            .push(value.ok_or("it refers to what is not there")?.clone());
        Ok(())
    }

    /// Keys and values, in turn, into the dictionary on top.
    fn set(&mut self, values: Vec<Value>) {
        if let Some(Value::Dictionary(entries)) = self.stack.last_mut() {
            let mut values = values.into_iter();
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                let deep = value.depth() >= DEPTH;
                entries.push((key, if deep { Value::Other } else { value }));
            }
        }
    }
}

const EMPTY: &str = "it takes more from its stack than is there";

/// `('storage', class, key, location, elements)`.
fn storage(id: Value) -> Value {
    let Value::Tuple(id) = id else {
        return Value::Other;
    };
    match id.as_slice() {
        [Value::Text(_), Value::Global(class), Value::Text(key), ..] => {
            Value::Storage(class.clone(), key.clone())
        }
        _ => Value::Other,
    }
}

/// What the functions return that make up dictionaries of tensors.
fn call(function: Value, arguments: Value) -> Value {
    let (Value::Global(function), Value::Tuple(arguments)) = (function, arguments) else {
        return Value::Other;
    };
    match (&*function, arguments.as_slice()) {
        ("OrderedDict", []) => Value::Dictionary(vec![]),
        ("_rebuild_parameter", [tensor, ..]) => tensor.clone(),
        // storage, offset, shape, strides, whether it learns, hooks; where the storage has no
        // format, that.
        (
            "_rebuild_tensor_v2" | "_rebuild_tensor_v3",
            [
                Value::Storage(class, key),
                Value::Integer(offset),
                Value::Tuple(shape),
                Value::Tuple(strides),
                _,
                _,
                rest @ ..,
            ],
        ) => {
            let format = match rest {
                [Value::Global(format), ..] => format,
                _ => class,
            };
            match (integers(shape), integers(strides)) {
                (Some(shape), Some(strides)) => Value::Tensor(Described {
                    storage: key.clone(),
                    offset: *offset,
                    shape,
                    strides,
                    format: format.clone(),
                }),
                _ => Value::Other,
            }
        }
        _ => Value::Other,
    }
}

fn integers(values: &[Value]) -> Option<Vec<usize>> {
    let integer = |value: &Value| match value {
        Value::Integer(integer) => Some(*integer),
        _ => None,
    };
    values.iter().map(integer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": {"w": tensor}}`, the storage `7` as float8 at element 3, as `torch.save` writes it.
    fn pickle() -> Vec<u8> {
        let mut bytes =
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01}q\x02X\x01\x00\x00\x00wq\x03".to_vec();
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v3\nq\x04((X\x07\x00\x00\x00storageq\x05");
        bytes.extend(b"ctorch.storage\nUntypedStorage\nq\x06X\x01\x00\x00\x007q\x07");
        bytes.extend(b"X\x03\x00\x00\x00cpuq\x08K\x0ctq\x09QK\x03K\x02M\x02\x01\x86q\x0a");
        bytes.extend(b"J\x02\x01\x00\x00K\x01\x86q\x0b\x89ccollections\nOrderedDict\nq\x0c)R");
        bytes.extend(b"ctorch\nfloat8_e4m3fn\nq\x0dtq\x0eRq\x0fss.");
        bytes
    }

    #[test]
    fn tensors_are_found_by_their_whole_names() {
        let tensor = Described {
            storage: "7".into(),
            offset: 3,
            shape: vec![2, 258],
            strides: vec![258, 1],
            format: "float8_e4m3fn".into(),
        };
        assert_eq!(tensors(&pickle()), Ok(vec![("a.w".to_string(), tensor)]));
    }

    #[test]
    fn whatever_the_bytes_it_ends() {
        let whole = pickle();
        for at in 0..whole.len() {
            assert!(tensors(&whole[..at]).is_err(), "{at}");
            for byte in 0..=255 {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                let _ = tensors(&damaged);
            }
        }
    }

    #[test]
    fn neither_depth_nor_copies_grow_without_end() {
        let million = 1 << 20;
        let mut nested = vec![b')'];
        nested.extend([0x85].repeat(million));
        nested.push(b'.');
        assert_eq!(tensors(&nested), Ok(vec![]));
        let mut nested = b"}X\x01\x00\x00\x00a".repeat(million);
        nested.push(b'}');
        nested.extend(b"s".repeat(million));
        nested.push(b'.');
        assert_eq!(tensors(&nested), Ok(vec![]));
        // A tuple of a thousand, a hundred thousand times.
        let mut copied = b"(".to_vec();
        copied.extend(b"K\x00".repeat(1000));
        copied.extend(b"tq\x00");
        copied.extend(b"h\x00".repeat(100_000));
        copied.push(b'.');
        assert_eq!(tensors(&copied), Ok(vec![]));
    }
}
