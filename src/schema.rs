//! What records of earlier times are written in, and how they become items.

use crate::codec::Codec;
use crate::dir::Era;
use crate::error::{CodecError, SchemaTag};
use crate::refill::guarded;
use std::sync::Arc;

/// Makes items of the records of an earlier schema.
pub(crate) type Migrate<T> = dyn Fn(&[u8]) -> Result<T, CodecError> + Send + Sync;

/// What the builder was given to read earlier schemas, by their tags.
pub(crate) struct Migrations<T>(Vec<(String, Arc<Migrate<T>>)>);

impl<T> Default for Migrations<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Clone for Migrations<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Migrations<T> {
    /// The last one that is given for a tag counts.
    pub(crate) fn add(&mut self, tag: String, migrate: Arc<Migrate<T>>) {
        self.0.retain(|(known, _)| *known != tag);
        self.0.push((tag, migrate));
    }

    fn of(&self, schema: &SchemaTag) -> Option<Arc<Migrate<T>>> {
        let mut known = self.0.iter();
        let (_, migrate) = known.find(|(tag, _)| Some(tag) == schema.schema.as_ref())?;
        Some(Arc::clone(migrate))
    }
}

/// How records are read that were written before the schema was today's.
pub(crate) struct Earlier<T>(Vec<(Era, Reader<T>)>);

enum Reader<T> {
    /// It was what it is today.
    Codec,
    Function(Arc<Migrate<T>>),
    /// Nothing that waits needs one; a dead letter may.
    Missing,
}

impl<T> Earlier<T> {
    pub(crate) fn new(eras: Vec<Era>, today: &SchemaTag, migrations: &Migrations<T>) -> Self {
        let readers = eras.into_iter().map(|era| {
            let reader = if era.schema == *today {
                Reader::Codec
            } else {
                let migrate = migrations.of(&era.schema);
                migrate.map_or(Reader::Missing, Reader::Function)
            };
            (era, reader)
        });
        Self(readers.collect())
    }

    /// Makes the item out of a record that was encoded in `incarnation`.
    pub(crate) fn decode(
        &self,
        incarnation: u64,
        record: &[u8],
        codec: &dyn Codec<T>,
    ) -> Result<T, CodecError> {
        let era = self.0.iter().find(|(era, _)| incarnation <= era.last);
        guarded(|| match era {
            None | Some((_, Reader::Codec)) => codec.decode(record),
            Some((_, Reader::Function(migrate))) => migrate(record),
            Some((era, Reader::Missing)) => Err(CodecError::new(format!(
                "it was written with {}, which nothing here reads",
                era.schema
            ))),
        })
    }
}
