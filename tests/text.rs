//! The text encoders against the reference: ids, states, pooled vectors, and what has no room.

#![allow(clippy::unwrap_used)]

mod common;

use std::{ops::ControlFlow, path::Path};

use burn::{
    module::Module,
    tensor::{DType, Device, FloatDType, Int, Tensor},
};
use burn_hunyuan::checkpoint::{Weights, check, load_module};
use burn_hunyuan_text::{
    Activation, Clip, ClipConfig, ClipTextEncoder, Error, Llama, LlamaConfig, LlamaTextEncoder,
    PromptTemplate, Tokenizer,
};
use common::{Fixture, assert_close, deviation, device, fixture_path, supports, values};
use serde_json::Value;

const BOUND: f32 = 1e-4;

fn load<M: Module>(module: M, fixture: &Fixture, dtype: FloatDType) -> M {
    let mut weights = Weights::open(fixture.path()).unwrap().under("weights.");
    // The layers that are skipped, and the final norm.
    for name in check(&module, &weights).unexpected {
        weights.remove(name.trim_start_matches("weights."));
    }
    load_module(module, &weights, dtype, &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

/// The fixture's LLaMA without its last `skip` layers.
fn llama(fixture: &Fixture, skip: usize, dtype: FloatDType, device: &Device) -> Llama {
    let config = fixture.config();
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let config = LlamaConfig::new()
        .with_vocabulary(size("vocab_size"))
        .with_hidden(size("hidden_size"))
        .with_intermediate(size("intermediate_size"))
        .with_layers(size("num_hidden_layers") - skip)
        .with_heads(size("num_attention_heads"))
        .with_kv_heads(size("num_key_value_heads"))
        .with_rope_theta(config["rope_parameters"]["rope_theta"].as_f64().unwrap())
        .with_norm_eps(config["rms_norm_eps"].as_f64().unwrap());
    load(config.init(device), fixture, dtype)
}

fn clip(fixture: &Fixture, dtype: FloatDType, device: &Device) -> Clip {
    let config = fixture.config();
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let activation = match config["hidden_act"].as_str() {
        Some("quick_gelu") => Activation::QuickGelu,
        Some("gelu") => Activation::Gelu,
        other => panic!("{other:?}"),
    };
    let config = ClipConfig::new()
        .with_vocabulary(size("vocab_size"))
        .with_positions(size("max_position_embeddings"))
        .with_hidden(size("hidden_size"))
        .with_intermediate(size("intermediate_size"))
        .with_layers(size("num_hidden_layers"))
        .with_heads(size("num_attention_heads"))
        .with_activation(activation)
        .with_norm_eps(config["layer_norm_eps"].as_f64().unwrap())
        .with_eos_token(size("eos_token_id") as u32);
    load(config.init(device), fixture, dtype)
}

fn tokens(fixture: &Fixture, device: &Device) -> Tensor<2, Int> {
    fixture.tensor::<2>("tokens", device).int().cast(DType::I32)
}

fn lengths(fixture: &Fixture, device: &Device) -> Vec<usize> {
    values(&fixture.tensor::<1>("lengths", device))
        .iter()
        .map(|&n| n as usize)
        .collect()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::open(&fixture_path("text").join(name)).unwrap()
}

/// The difficult prompts, and the reference's ids for them.
fn prompts() -> Vec<Value> {
    let json = std::fs::read(fixture_path("text/prompts.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn prompt(name: &str) -> String {
    let index = match name {
        "short" => 0,
        "empty" => 1,
        "long" => 14,
        _ => panic!("{name}"),
    };
    prompts()[index]["prompt"].as_str().unwrap().into()
}

/// The states of each sequence's own tokens. Those of padding are not the reference's: there padding
/// sees none of itself.
fn real(states: &Tensor<3>, lengths: &[usize]) -> Vec<Tensor<3>> {
    let of = |(i, &length): (usize, &usize)| states.clone().narrow(0, i, 1).narrow(1, 0, length);
    lengths.iter().enumerate().map(of).collect()
}

/// A batch of sequences of different lengths.
#[test]
fn llama_states_equal_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("text/llama.safetensors");
    let lengths = lengths(&fixture, &device);
    assert!(lengths.iter().min() < lengths.iter().max());
    // Skipping all layers leaves the embedding.
    for skip in [1, 2, 4] {
        let llama = llama(&fixture, skip, FloatDType::F32, &device);
        let ours = real(&llama.forward(tokens(&fixture, &device)), &lengths);
        let reference = fixture.tensor::<3>(&format!("states.skip{skip}"), &device);
        for (i, (ours, reference)) in ours.iter().zip(real(&reference, &lengths)).enumerate() {
            let what = format!("states of sequence {i} before the last {skip}");
            assert_close(&what, ours, &reference, BOUND);
        }
    }
}

#[test]
fn clip_vectors_equal_the_reference() {
    let Some(device) = device() else { return };
    // With the end token's id and quick GELU; with the id 2 of older files and exact GELU.
    for name in ["clip", "clip_gelu"] {
        let fixture = Fixture::open(&format!("text/{name}.safetensors"));
        let ours = clip(&fixture, FloatDType::F32, &device).forward(tokens(&fixture, &device));
        assert_close(name, &ours, &fixture.tensor("pooled", &device), BOUND);
    }
}

#[test]
fn bf16_is_as_good_as_the_references_bf16() {
    let Some(device) = device() else { return };
    if !supports(&device, DType::BF16) {
        return;
    }
    let fixture = Fixture::open("text/llama.safetensors");
    let lengths = lengths(&fixture, &device);
    let states = llama(&fixture, 2, FloatDType::BF16, &device).forward(tokens(&fixture, &device));
    assert_eq!(states.dtype(), DType::BF16);
    let exact = real(&fixture.tensor("states.skip2", &device), &lengths);
    let theirs = real(&fixture.tensor("states.bf16", &device), &lengths);
    for (i, ours) in real(&states, &lengths).iter().enumerate() {
        let allowed = 2.0 * deviation(&theirs[i], &exact[i]);
        assert_close("LLaMA in bf16", ours, &exact[i], allowed);
    }

    for name in ["clip", "clip_gelu"] {
        let fixture = Fixture::open(&format!("text/{name}.safetensors"));
        let ours = clip(&fixture, FloatDType::BF16, &device).forward(tokens(&fixture, &device));
        assert_eq!(ours.dtype(), DType::BF16);
        let exact = fixture.tensor::<2>("pooled", &device);
        let allowed = 2.0 * deviation(&fixture.tensor("pooled.bf16", &device), &exact);
        assert_close(&format!("{name} in bf16"), &ours, &exact, allowed);
    }
}

#[test]
fn token_ids_equal_the_reference() {
    let llama = tokenizer("llama").with_length(351).unwrap();
    let clip = tokenizer("clip").with_length(77).unwrap();
    let clip_vocab = tokenizer("clip_vocab").with_length(77).unwrap();
    for case in prompts() {
        let text = case["prompt"].as_str().unwrap();
        let rendered = PromptTemplate::VIDEO.render(text);
        for (name, tokenizer, text) in [
            ("llama", &llama, rendered.as_str()),
            ("clip", &clip, text),
            ("clip", &clip_vocab, text),
        ] {
            let ours = tokenizer.encode(text).unwrap();
            let reference: Vec<u32> = serde_json::from_value(case[name]["ids"].clone()).unwrap();
            assert_eq!(ours.ids, reference, "{name}: {text:?}");
            assert_eq!(
                ours.length as u64,
                case[name]["length"].as_u64().unwrap(),
                "{text:?}"
            );
        }
    }
}

#[test]
fn llama_prompts_equal_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("text/llama.safetensors");
    let model = llama(&fixture, 2, FloatDType::F32, &device);
    let encoder = LlamaTextEncoder::new(tokenizer("llama"), model, PromptTemplate::VIDEO).unwrap();
    for name in ["short", "empty", "long"] {
        let ours = encoder.encode(&prompt(name)).unwrap();
        let length = ours.states.dims()[1];
        let mask = values(&fixture.tensor::<2>(&format!("mask.{name}"), &device));
        let prefix = (0..mask.len()).map(|i| if i < length { 1.0 } else { 0.0 });
        assert_eq!(mask, prefix.collect::<Vec<f32>>(), "{name} prompt");
        let reference = fixture.tensor::<3>(&format!("prompt.{name}"), &device);
        let reference = reference.narrow(1, 0, length);
        assert_close(&format!("{name} prompt"), &ours.states, &reference, BOUND);
    }
}

#[test]
fn clip_prompts_equal_the_reference() {
    let Some(device) = device() else { return };
    for name in ["clip", "clip_gelu"] {
        let fixture = Fixture::open(&format!("text/{name}.safetensors"));
        let model = clip(&fixture, FloatDType::F32, &device);
        let encoder =
            ClipTextEncoder::new(tokenizer(name.split('_').next().unwrap()), model).unwrap();
        for case in ["short", "empty", "long"] {
            let ours = encoder.encode(&prompt(case)).unwrap();
            let reference = fixture.tensor::<2>(&format!("pooled.{case}"), &device);
            assert_close(
                &format!("{case} prompt of {name}"),
                &ours.pooled,
                &reference,
                BOUND,
            );
        }
    }
}

#[test]
fn what_has_no_room_is_returned() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("text/clip.safetensors");
    let model = clip(&fixture, FloatDType::F32, &device);
    let clip = ClipTextEncoder::new(tokenizer("clip"), model).unwrap();
    let fixture = Fixture::open("text/llama.safetensors");
    let model = llama(&fixture, 2, FloatDType::F32, &device);
    let llama = LlamaTextEncoder::new(tokenizer("llama"), model, PromptTemplate::VIDEO).unwrap();

    for (start, end) in [("Grass ", "CAT, with an É"), ("grass ", "猫🐈 and so on")] {
        assert_eq!(clip.encode(start).unwrap().dropped, None);
        assert_eq!(llama.encode(start).unwrap().dropped, None);

        // As many words as there is room for, found by the lengths alone.
        let fill = |tokenizer: Tokenizer, room: usize, text: &dyn Fn(usize) -> String| {
            let tokenizer = tokenizer.with_length(10_000).unwrap();
            let fits = |n| tokenizer.encode(&text(n)).unwrap().length <= room;
            (1..).take_while(|&n| fits(n)).last().unwrap()
        };
        let n = fill(tokenizer("clip"), 77, &|n| start.repeat(n));
        let full = start.repeat(n);
        assert_eq!(clip.encode(&full).unwrap().dropped, None);
        let dropped = clip.encode(&(full + end)).unwrap().dropped.unwrap();
        assert!(
            end.ends_with(&dropped) && end.len() - dropped.len() < start.len(),
            "{dropped}"
        );

        let rendered = |n| [PromptTemplate::VIDEO.prefix, &start.repeat(n)].concat();
        let n = fill(tokenizer("llama"), 351, &rendered);
        let full = start.repeat(n);
        assert_eq!(
            llama.encode(&full).unwrap().dropped,
            None,
            "only the template's end"
        );
        let dropped = llama.encode(&(full + end)).unwrap().dropped.unwrap();
        assert!(
            end.ends_with(&dropped) && end.len() - dropped.len() < start.len(),
            "{dropped}"
        );
    }
}

#[test]
fn the_image_template_keeps_the_videos_length() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("text/llama.safetensors");
    let model = llama(&fixture, 2, FloatDType::F32, &device);
    let encoder = LlamaTextEncoder::new(tokenizer("llama"), model, PromptTemplate::IMAGE).unwrap();
    let tokens = |prompt: &str| encoder.encode(prompt).unwrap().states.dims()[1];
    assert_eq!(tokens(&"A cat. ".repeat(400)), 315);
    assert!(tokens("A cat.") < 315);
}

#[test]
fn a_tokenizer_needs_no_files() {
    let folder = fixture_path("text/llama");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let ours = Tokenizer::from_bytes(&read("tokenizer.json"), &read("tokenizer_config.json"))
        .unwrap()
        .with_length(351)
        .unwrap();
    let text = PromptTemplate::VIDEO.render("A cat.");
    let opened = tokenizer("llama").with_length(351).unwrap();
    assert_eq!(ours.encode(&text).unwrap(), opened.encode(&text).unwrap());
}

/// The official sizes, without allocating a weight.
#[test]
fn the_official_models_have_their_parameters() {
    let Some(device) = device() else { return };
    let layer = 2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336 + 2 * 4096;
    assert_eq!(
        LlamaConfig::new().init(&device).num_params(),
        128320 * 4096 + 30 * layer
    );
    // The count that OpenAI's CLIP-L has in the text tower without the projection.
    assert_eq!(ClipConfig::new().init(&device).num_params(), 123_060_480);
}

#[test]
fn unusable_tokenizers_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let copy = |from: &str, name: &str| {
        let from = fixture_path("text").join(from).join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    };
    let open = || Tokenizer::open(folder.path()).unwrap_err();
    let holds = |error: Error, part: &str| {
        let message = error.to_string();
        assert!(message.contains(part), "{message}");
    };

    assert!(matches!(open(), Error::MissingTokenizer { folder: f } if f == folder.path()));
    holds(
        Tokenizer::open(Path::new("nowhere")).unwrap_err(),
        "no tokenizer in nowhere",
    );

    copy("clip_vocab", "vocab.json");
    holds(open(), "merges.txt");
    copy("clip_vocab", "merges.txt");
    Tokenizer::open(folder.path()).unwrap();
    write("special_tokens_map.json", r#"{ "pad_token": "<nothing>" }"#);
    holds(open(), r#"pad_token is "<nothing>""#);
    write("special_tokens_map.json", "{}");
    write("merges.txt", "no such pair\n");
    holds(open(), "vocab.json is not usable");
    write("vocab.json", r#"{ "a": 0 }"#);
    holds(open(), "it is no vocabulary of CLIP");

    copy("llama", "tokenizer.json");
    assert!(matches!(open(), Error::NoPaddingToken));
    write("tokenizer_config.json", "{");
    holds(open(), "tokenizer_config.json is not usable");
    write(
        "tokenizer_config.json",
        r#"{ "pad_token": { "content": "<pad>" } }"#,
    );
    Tokenizer::open(folder.path()).unwrap();
    write("tokenizer.json", "{}");
    holds(open(), "tokenizer.json is not usable");
}

#[test]
fn a_tokenizer_must_fit_its_model() {
    let Some(device) = device() else { return };
    let llama = LlamaConfig::new()
        .with_vocabulary(100)
        .with_hidden(32)
        .with_layers(0);
    let error = LlamaTextEncoder::new(
        tokenizer("llama"),
        llama.init(&device),
        PromptTemplate::VIDEO,
    );
    assert!(matches!(
        error,
        Err(Error::Vocabulary { embedded: 100, .. })
    ));

    let clip = ClipConfig::new()
        .with_hidden(12)
        .with_layers(0)
        .with_positions(76);
    let error = ClipTextEncoder::new(tokenizer("clip"), clip.init(&device));
    assert!(matches!(
        error,
        Err(Error::Positions {
            positions: 76,
            tokens: 77
        })
    ));
}
