//! The names that graphs, ports and runtimes go by in files. Code asks these types; the words themselves stand here alone.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{DType, Distribution, Port};

/// An enum of fixed names, and of any other. A known name is always read as its own variant: the other one can be made
/// by reading alone.
macro_rules! names {
    ($(#[$about:meta])* $name:ident, else $(#[$about_other:meta])* $other:ident: $($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            $(#[$about_other])*
            #[non_exhaustive]
            $other(String),
        }

        impl $name {
            /// All that have a variant of their own.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in files.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::$other(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match name {
                    $($text => Self::$variant,)*
                    other => Self::$other(other.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        /// By name, as files list them.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.name().cmp(other.name())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Ok(String::deserialize(from)?.as_str().into())
            }
        }
    };
}

names! {
    /// What a graph computes.
    GraphKind, else
    /// What its author says.
    Custom:
    /// Images to what stands for them.
    Encode = "encode",
    /// Latent vectors to images.
    Decode = "decode",
    /// Images to images, through what stands for them.
    Reconstruct = "reconstruct",
    /// Noise to images.
    Sample = "sample",
    /// Partly given images to whole ones.
    Complete = "complete",
    /// Images to the logarithm of their probability.
    LogProb = "log_prob",
    /// Images to how real they look.
    Discriminate = "discriminate",
    /// Latent vectors by a learnt distribution.
    Prior = "prior",
    /// Images to other images.
    Translate = "translate",
}

names! {
    /// What a port carries.
    PortRole, else
    /// What its author says.
    Other:
    /// Images in [0, 1].
    Image = "x",
    /// Images that were given and reconstructed.
    Reconstruction = "x_hat",
    /// Images that others were made into.
    Translation = "y",
    /// An image of which some is given.
    Given = "given",
    /// Latent vectors.
    Latent = "z",
    /// The mean of a distribution of latent vectors.
    Mean = "mean",
    /// The logarithm of the variance of one.
    LogVar = "log_var",
    /// Random numbers.
    Noise = "noise",
    /// Classes.
    Label = "label",
    /// Where an image is given.
    Mask = "mask",
    /// Log-probabilities of images.
    LogProb = "log_prob",
    /// How real an image looks.
    Logit = "logit",
    /// Log-probabilities of values.
    Logits = "logits",
    /// What one step hands to the next.
    State = "state",
}

names! {
    /// What computes graphs.
    RuntimeId, else
    /// One that is not known here.
    Other:
    /// The model itself, on candle: what trains, and what others are compared with.
    Candle = "candle",
    /// tract, which is part of every build.
    Tract = "tract",
    /// ONNX Runtime.
    Ort = "ort",
    /// ONNX Runtime in a browser.
    Web = "web",
    /// candle-onnx.
    CandleOnnx = "candle-onnx",
}

impl RuntimeId {
    /// `ort, web`
    pub fn list<'a>(runtimes: impl IntoIterator<Item = &'a Self>) -> String {
        let names: Vec<&str> = runtimes.into_iter().map(Self::name).collect();
        names.join(", ")
    }
}

/// The one that is always there.
impl Default for RuntimeId {
    fn default() -> Self {
        Self::Tract
    }
}

impl Port {
    /// What it carries: its name says so, or its distribution where the name is an author's own.
    pub fn role(&self) -> PortRole {
        match PortRole::from(self.name.as_str()) {
            PortRole::Other(_) if self.distribution.is_some() => PortRole::Noise,
            role => role,
        }
    }

    /// What its values mean: as its author says, or as its role does.
    pub fn meaning(&self) -> Option<&str> {
        let own = self.description.as_deref();
        own.or_else(|| self.role().meaning())
    }

    /// Which values it takes or gives, for people: `standard normal noise`, `[0, 1]`; none where any will do.
    pub fn values(&self) -> Option<String> {
        match (self.distribution, self.range) {
            (Some(Distribution::Normal), _) => Some("standard normal noise".into()),
            (Some(Distribution::Uniform), _) => Some("uniform noise in [0, 1)".into()),
            (None, Some([low, high])) if self.dtype == DType::I64 => {
                Some(format!("{low} to {high}"))
            }
            (None, Some([low, high])) => Some(format!("[{low}, {high}]")),
            (None, None) => None,
        }
    }
}

impl PortRole {
    /// What values mean, in words for people.
    pub fn meaning(&self) -> Option<&'static str> {
        Some(match self {
            Self::Image => "images: 0 is black and 1 is white",
            Self::Reconstruction => "reconstructed images",
            Self::Translation => "what became of the images",
            Self::Given => "images of which a part is given",
            Self::Latent => "latent vectors",
            Self::Mean => "mean of q(z|x)",
            Self::LogVar => "logarithm of the variance of q(z|x)",
            Self::Noise => {
                "random numbers that the caller draws, so that the same noise gives the same image everywhere"
            }
            Self::Label => "classes",
            Self::Mask => "1 where a pixel is given, 0 where it is to be drawn",
            Self::LogProb => "log p(x) of each image in nats",
            Self::Logit => "its sigmoid is the probability that the image is real",
            Self::Logits => "unnormalised log-probabilities",
            Self::State => "what one step hands to the next",
            Self::Other(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_have_one_form_and_others_stay_what_they_are() {
        for kind in GraphKind::ALL {
            assert_eq!(GraphKind::from(kind.name()), *kind);
        }
        for role in PortRole::ALL {
            assert_eq!(PortRole::from(role.name()), *role);
            assert!(role.meaning().is_some());
        }
        for runtime in RuntimeId::ALL {
            assert_eq!(RuntimeId::from(runtime.name()), *runtime);
        }
        // Scripts and files of others rely on these.
        assert_eq!(
            RuntimeId::list(RuntimeId::ALL),
            "candle, tract, ort, web, candle-onnx"
        );
        let other = RuntimeId::from("rten");
        assert_eq!((other.name(), other.to_string()), ("rten", "rten".into()));
        assert!(!RuntimeId::ALL.contains(&other));
        assert!(RuntimeId::CandleOnnx < RuntimeId::Tract && other < RuntimeId::Tract);
        assert_eq!(format!("{:>6}|", RuntimeId::Ort), "   ort|");
    }

    #[test]
    fn a_port_says_what_it_carries() {
        let role = |port: Port| port.role();
        assert_eq!(role(Port::normal("z", &[2])), PortRole::Latent);
        assert_eq!(role(Port::uniform("u", &[2])), PortRole::Noise);
        assert_eq!(role(Port::image("mask", [1, 2, 2])), PortRole::Mask);
        let own = role(Port::batched("energy", &[]));
        assert_eq!((own.name(), own.meaning()), ("energy", None));
    }

    #[test]
    fn a_port_says_which_values_it_takes_and_what_they_mean() {
        let told = |port: Port| (port.values(), port.meaning().map(str::to_owned));
        let text = |text: &str| Some(text.to_owned());
        let time = Port::bounded("t", &[], [0.0, 0.5]);
        assert_eq!(told(time.clone()), (text("[0, 0.5]"), None));
        let time = time.described("the time, 0 for images");
        assert_eq!(
            told(time.clone()),
            (text("[0, 0.5]"), text("the time, 0 for images"))
        );
        assert_eq!(time.role(), PortRole::from("t"));
        let label = Port::label("label", 10);
        assert_eq!(told(label), (text("0 to 9"), text("classes")));
        let label = Port::label("label", 10).described("the digit");
        assert_eq!(label.meaning(), Some("the digit"));
        let noise = told(Port::uniform("u", &[2]));
        assert_eq!(noise.0, text("uniform noise in [0, 1)"));
        assert_eq!(told(Port::batched("energy", &[])), (None, None));
    }
}
