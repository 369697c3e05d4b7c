//! A parsed JSON value as Go's decoder would see it, presented to serde.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// One value of the tree, its place, and perhaps a list of the fields that were found set.
pub(crate) struct Adapter<'v, 'p> {
    value: &'v Value,
    place: &'p Place<'p>,
    seen: Option<&'p RefCell<Vec<String>>>,
}

/// Where a value stands; a chain on the stack, so that nothing is allocated unless something is wrong.
pub(crate) enum Place<'p> {
    Root,
    Key(&'p Place<'p>, &'p str),
    Index(&'p Place<'p>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// What serde reports, and where. The innermost place is known first and stays.
#[derive(Debug)]
pub(crate) struct Failure {
    place: Option<String>,
    reason: String,
}

impl Failure {
    fn at(mut self, place: &Place<'_>) -> Self {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// `HostConfig.Memory: invalid type: …`, or the reason alone when it is about the whole value.
    pub(crate) fn located(self) -> String {
        match self.place {
            Some(place) => format!("{place}: {}", self.reason),
            None => self.reason,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

impl Error for Failure {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self { place: None, reason: reason.to_string() }
    }
}

impl<'v> Adapter<'v, 'static> {
    pub(crate) fn new(value: &'v Value) -> Self {
        Self { value, place: &Place::Root, seen: None }
    }
}

impl<'v, 'p> Adapter<'v, 'p> {
    /// Notes every field that is set in `seen`.
    pub(crate) fn recording(value: &'v Value, seen: &'p RefCell<Vec<String>>) -> Self {
        Self { value, place: &Place::Root, seen: Some(seen) }
    }

    /// Notes this value, if it is wanted and is not Go's zero value.
    fn record(&self) {
        if let Some(seen) = self.seen.filter(|_| !is_zero(self.value)) {
            seen.borrow_mut().push(self.place.to_string());
        }
    }

    fn unexpected(&self) -> Unexpected<'v> {
        match self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(unsigned), _) => Unexpected::Unsigned(unsigned),
                (None, Some(signed)) => Unexpected::Signed(signed),
                (None, None) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        }
    }

    /// Lists and maps count as a whole, so what is inside them is not noted.
    fn elements(&self, list: &'v [Value]) -> Elements<'v, 'p> {
        Elements { list: list.iter(), index: 0, place: self.place, padding: 0 }
    }
}

/// Whether Go would call the value zero.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// For the types of JSON with a zero value of their own: `null` is that value.
macro_rules! null_is_zero {
    ($($method:ident => $visit:ident($zero:expr);)*) => {
        $(fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Failure> {
            if self.value.is_null() { visitor.$visit($zero) } else { self.deserialize_any(visitor) }
        })*
    };
}

impl<'v> Deserializer<'v> for Adapter<'v, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.record();
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(unsigned), _) => visitor.visit_u64(unsigned),
                (None, Some(signed)) => visitor.visit_i64(signed),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(self.elements(list)),
            Value::Object(object) => visitor.visit_map(Entries {
                entries: object.iter(),
                place: self.place,
                current: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.value {
            Value::Null => visitor.visit_map(Fields::none(self.place)),
            Value::Object(object) => {
                visitor.visit_map(Fields::of(object, fields, self.place, self.seen))
            }
            _ => Err(Failure::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() {
            visitor.visit_map(Fields::none(self.place))
        } else {
            self.deserialize_any(visitor)
        }
    }

    fn deserialize_seq<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() {
            visitor.visit_seq(self.elements(&[]))
        } else {
            self.deserialize_any(visitor)
        }
    }

    /// An array of fixed size: missing elements are zero, surplus ones are dropped.
    fn deserialize_tuple<V: Visitor<'v>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let list = match self.value {
            Value::Null => &[][..],
            Value::Array(list) => list.as_slice(),
            _ => return Err(Failure::invalid_type(self.unexpected(), &visitor)),
        };
        let kept = &list[..list.len().min(len)];
        // Unlike a list, an array of zeros is zero: clients without a terminal send a console of [0,0].
        if !kept.iter().all(is_zero) {
            self.record();
        }
        visitor.visit_seq(Elements { padding: len - kept.len(), ..self.elements(kept) })
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.record();
        self.value
            .deserialize_enum(name, variants, visitor)
            .map_err(|error| Failure::custom(error).at(self.place))
    }

    fn deserialize_ignored_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    null_is_zero! {
        deserialize_bool => visit_bool(false);
        deserialize_i8 => visit_u64(0);
        deserialize_i16 => visit_u64(0);
        deserialize_i32 => visit_u64(0);
        deserialize_i64 => visit_u64(0);
        deserialize_u8 => visit_u64(0);
        deserialize_u16 => visit_u64(0);
        deserialize_u32 => visit_u64(0);
        deserialize_u64 => visit_u64(0);
        deserialize_f32 => visit_f64(0.0);
        deserialize_f64 => visit_f64(0.0);
        deserialize_str => visit_str("");
        deserialize_string => visit_str("");
    }

    forward_to_deserialize_any! {
        <V: Visitor<'v>>
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

/// The fields of a struct that an object sets, under the names that serde expects.
struct Fields<'v, 'p> {
    found: std::vec::IntoIter<(&'static str, &'v Value)>,
    current: Option<(&'static str, &'v Value)>,
    place: &'p Place<'p>,
    seen: Option<&'p RefCell<Vec<String>>>,
}

impl<'v, 'p> Fields<'v, 'p> {
    fn none(place: &'p Place<'p>) -> Self {
        Self { found: Vec::new().into_iter(), current: None, place, seen: None }
    }

    /// `null` is absent. An exact key beats one in another case, and serde must not see both.
    fn of(
        object: &'v Map<String, Value>,
        fields: &'static [&'static str],
        place: &'p Place<'p>,
        seen: Option<&'p RefCell<Vec<String>>>,
    ) -> Self {
        let mut chosen: Vec<Option<&'v Value>> = vec![None; fields.len()];
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let matching = fields.iter().position(|field| field.eq_ignore_ascii_case(key));
            if let Some(index) =
                matching.filter(|index| fields[*index] == key || chosen[*index].is_none())
            {
                chosen[index] = Some(value);
            }
        }
        let found: Vec<_> =
            fields.iter().zip(chosen).filter_map(|(field, value)| Some((*field, value?))).collect();
        Self { found: found.into_iter(), current: None, place, seen }
    }
}

impl<'v> MapAccess<'v> for Fields<'v, '_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'v>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        self.current = self.found.next();
        self.current
            .map(|(name, _)| seed.deserialize(BorrowedStrDeserializer::new(name)))
            .transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (name, value) =
            self.current.take().ok_or_else(|| Failure::custom("value before key"))?;
        let place = Place::Key(self.place, name);
        seed.deserialize(Adapter { value, place: &place, seen: self.seen })
            .map_err(|failure| failure.at(&place))
    }
}

/// The entries of an object that is a map.
struct Entries<'v, 'p> {
    entries: serde_json::map::Iter<'v>,
    current: Option<(&'v str, &'v Value)>,
    place: &'p Place<'p>,
}

impl<'v> MapAccess<'v> for Entries<'v, '_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'v>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        self.current = self.entries.next().map(|(key, value)| (key.as_str(), value));
        self.current.map(|(key, _)| seed.deserialize(BorrowedStrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (key, value) =
            self.current.take().ok_or_else(|| Failure::custom("value before key"))?;
        let place = Place::Key(self.place, key);
        seed.deserialize(Adapter { value, place: &place, seen: None })
            .map_err(|failure| failure.at(&place))
    }
}

/// The elements of a list, and so many zero values after them.
struct Elements<'v, 'p> {
    list: std::slice::Iter<'v, Value>,
    index: usize,
    place: &'p Place<'p>,
    padding: usize,
}

impl<'v> SeqAccess<'v> for Elements<'v, '_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'v>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        const ZERO: &Value = &Value::Null;
        let value = match self.list.next() {
            Some(value) => value,
            None if self.padding > 0 => {
                self.padding -= 1;
                ZERO
            }
            None => return Ok(None),
        };
        let place = Place::Index(self.place, self.index);
        self.index += 1;
        seed.deserialize(Adapter { value, place: &place, seen: None })
            .map(Some)
            .map_err(|failure| failure.at(&place))
    }
}

/// The names of the fields of a struct, as serde knows them; empty for anything else.
pub(crate) fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The probe always fails; it is asked only to hear the list.
    let _ = T::deserialize(FieldNames(&mut names));
    names
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
        Err(Failure::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Failure> {
        *self.0 = fields;
        Err(Failure::custom("only the names were wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
