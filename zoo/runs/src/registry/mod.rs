//! The models there are: an explicit list, nothing is scanned or loaded behind anyone's back.

mod added;
mod store;

use zoo_sdk::{Description, Plugin};

pub use added::{assemble, load};
pub use store::{Added, Store};

use crate::{Error, Result};

/// Plugins by the name of their model.
pub struct Registry {
    // Descriptions are asked for once: schemas are costly to build, and the answer never changes.
    entries: Vec<(Description, Box<dyn Plugin>)>,
    /// Models that would be there if their library could be loaded, and why it cannot.
    broken: Vec<(String, String)>,
}

impl Registry {
    /// A registry of these plugins.
    ///
    /// # Errors
    /// [`Error::DuplicateModel`] where two have the same name.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Result<Self> {
        let mut entries: Vec<_> = plugins.into_iter().map(|p| (p.describe(), p)).collect();
        entries.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        if let Some(pair) = entries.windows(2).find(|w| w[0].0.name == w[1].0.name) {
            return Err(Error::DuplicateModel(pair[0].0.name.clone()));
        }
        Ok(Self {
            entries,
            broken: Vec::new(),
        })
    }

    /// Adds plugins whose models are not there yet; one that is there already stays.
    pub fn extend(&mut self, plugins: Vec<Box<dyn Plugin>>) {
        for plugin in plugins {
            let description = plugin.describe();
            match self
                .entries
                .binary_search_by(|(d, _)| d.name.cmp(&description.name))
            {
                Ok(_) => tracing::debug!("another plugin has the model {} too", description.name),
                Err(index) => self.entries.insert(index, (description, plugin)),
            }
        }
    }

    /// Remembers models whose library cannot be loaded, for whoever asks for them.
    pub fn note_broken(&mut self, models: &[String], why: &str) {
        let broken = models.iter().map(|model| (model.clone(), why.to_owned()));
        self.broken.extend(broken);
    }

    /// The plugin of the model called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with the names there are, nearest first.
    pub fn get(&self, name: &str) -> Result<&dyn Plugin> {
        self.entry(name).map(|(_, plugin)| plugin.as_ref())
    }

    /// The description of the model called `name`; errors as in [`Registry::get`].
    pub fn describe(&self, name: &str) -> Result<&Description> {
        self.entry(name).map(|(description, _)| description)
    }

    /// All descriptions, by name.
    pub fn descriptions(&self) -> impl Iterator<Item = &Description> {
        self.entries.iter().map(|(description, _)| description)
    }

    fn entry(&self, name: &str) -> Result<&(Description, Box<dyn Plugin>)> {
        if let Some(entry) = self.entries.iter().find(|(d, _)| d.name == name) {
            return Ok(entry);
        }
        Err(match self.broken.iter().find(|(model, _)| model == name) {
            Some((model, why)) => Error::BrokenPlugin {
                model: model.clone(),
                why: why.clone(),
            },
            None => Error::UnknownModel {
                name: name.to_owned(),
                models: nearest_first(name, self.descriptions().map(|d| d.name.as_str())),
            },
        })
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.descriptions().map(|d| &d.name))
            .finish()
    }
}

/// `names`, those most like `name` first.
pub(crate) fn nearest_first<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.sort_by_key(|known| strsim::damerau_levenshtein(name, known));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakePlugin;

    #[test]
    fn models_are_found_sorted_and_suggested() {
        let named = |name: &str| Box::new(FakePlugin::named(name)) as Box<dyn Plugin>;
        let registry =
            Registry::new(["vae", "gan", "pixelcnn"].into_iter().map(named).collect()).unwrap();
        let names: Vec<_> = registry.descriptions().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["gan", "pixelcnn", "vae"]);
        assert_eq!(registry.get("vae").unwrap().describe().name, "vae");
        assert_eq!(
            registry.get("pixlcnn").err().unwrap().to_string(),
            r#"there is no model "pixlcnn"; did you mean pixelcnn? (models: pixelcnn, gan, vae)"#
        );
        let mut more = registry;
        more.extend(vec![named("vae"), named("made")]);
        more.note_broken(&["nice".into()], "its file is gone");
        let names: Vec<_> = more.descriptions().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["gan", "made", "pixelcnn", "vae"]);
        let error = more.get("nice").err().unwrap().to_string();
        assert!(error.contains("its file is gone"), "{error}");
        let twice = Registry::new(vec![named("vae"), named("vae")]);
        assert!(matches!(twice, Err(Error::DuplicateModel(name)) if name == "vae"));
    }
}
