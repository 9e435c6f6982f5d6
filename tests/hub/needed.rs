//! Which files of a repository are downloaded.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn_hunyuan::checkpoint::{Model, Weights, hub::needed};

#[test]
fn one_set_of_weights_for_each_part() {
    let choose = |files: &[&str]| needed(&owned(files), None).unwrap();
    let diffusers = choose(&[
        "README.md",
        "model_index.json",
        "image_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "text_encoder/pytorch_model.bin",
        "text_encoder_2/pytorch_model.bin",
        "tokenizer/tokenizer.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.bin.index.json",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        "transformer/model.onnx",
        "vae/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.safetensors",
    ]);
    let mut sorted = diffusers;
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/model.fp16-00001-of-00002.safetensors",
            "text_encoder/model.fp16-00002-of-00002.safetensors",
            "text_encoder/model.safetensors.index.fp16.json",
            "text_encoder_2/pytorch_model.bin",
            "tokenizer/tokenizer.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            "vae/diffusion_pytorch_model.safetensors",
        ]
    );
    let t2v = "hunyuan-video-t2v-720p";
    let tencent = [
        "config.json",
        "assets/logo.png",
        &format!("{t2v}/transformers/mp_rank_00_model_states.pt"),
        &format!("{t2v}/transformers/mp_rank_00_model_states_fp8.pt"),
        &format!("{t2v}/transformers/mp_rank_00_model_states_fp8_map.pt"),
        &format!("{t2v}/vae/config.json"),
        &format!("{t2v}/vae/pytorch_model.pt"),
    ];
    assert_eq!(choose(&tencent), [tencent[2], tencent[5], tencent[6]]);
    let clip = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
        "notes.md",
        "x.onnx",
    ];
    assert_eq!(
        choose(&clip),
        ["model.safetensors", "config.json", "tokenizer.json"]
    );
}

fn owned(files: &[&str]) -> Vec<String> {
    files.iter().map(ToString::to_string).collect()
}

#[test]
fn of_several_weights_one_has_to_be_named() {
    let files = owned(&[
        "README.md",
        "a-Q4_K_M.gguf",
        "a-Q8_0.gguf",
        "config.json",
        "split/vae/a.safetensors",
        "split/vae/config.json",
        "split/text/model-00001-of-00002.safetensors",
        "split/text/model-00002-of-00002.safetensors",
        "split/text/model.safetensors.index.json",
        "fp8/a.pt",
        "fp8/a_map.pt",
        "fp8/b.pt",
    ]);
    let entries = [
        "a-Q4_K_M.gguf",
        "a-Q8_0.gguf",
        "fp8/a.pt",
        "fp8/a_map.pt",
        "fp8/b.pt",
        "split/text/model.safetensors.index.json",
        "split/vae/a.safetensors",
    ];
    assert_eq!(needed(&files, None).unwrap_err(), entries);
    assert_eq!(
        needed(&files, Some("a-Q2_K.gguf")).unwrap_err(),
        entries,
        "it is not there"
    );
    for (file, with) in [
        ("a-Q8_0.gguf", &["a-Q8_0.gguf", "config.json"][..]),
        (
            "split/vae/a.safetensors",
            &["split/vae/a.safetensors", "split/vae/config.json"],
        ),
        (
            "split/text/model.safetensors.index.json",
            &[
                "split/text/model.safetensors.index.json",
                "split/text/model-00001-of-00002.safetensors",
                "split/text/model-00002-of-00002.safetensors",
            ],
        ),
        ("fp8/a.pt", &["fp8/a.pt", "fp8/a_map.pt"]),
    ] {
        assert_eq!(needed(&files, Some(file)).unwrap(), with);
    }
    // One, but where the folder of the repository does not show it.
    let deep = owned(&["config.json", "deep/a.gguf"]);
    assert_eq!(needed(&deep, None).unwrap_err(), ["deep/a.gguf"]);
}

/// A file of `tests/fixtures/`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

/// The files of a repository: their paths and contents.
type Repository = BTreeMap<&'static str, Vec<u8>>;

/// Opens what is downloaded of a repository, and counts the components.
fn components(repository: &Repository, file: Option<&str>) -> usize {
    let names: Vec<String> = repository.keys().map(ToString::to_string).collect();
    let folder = tempfile::tempdir().unwrap();
    for name in needed(&names, file).unwrap() {
        let path = folder.path().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &repository[name.as_str()]).unwrap();
    }
    let path = folder.path().join(file.unwrap_or_default());
    Model::open(&[path]).unwrap().components().count()
}

#[test]
fn what_is_downloaded_opens() {
    let read = |name: &str| fs::read(fixture(name)).unwrap();
    let weights = |name: &str| read(&format!("checkpoints/{name}"));
    // An index that gives all tensors of a file to `shard`.
    let index = |name: &str, shard: &str| {
        let weights = Weights::open(fixture("checkpoints").join(name)).unwrap();
        let map: BTreeMap<_, _> = weights.names().map(|name| (name, shard)).collect();
        serde_json::json!({ "weight_map": map })
            .to_string()
            .into_bytes()
    };
    let (llama, clip) = (
        "comfy/llava_llama3_fp16.safetensors",
        "comfy/clip_l.safetensors",
    );
    let shard = "model.fp16-00001-of-00001.safetensors";
    let vae = "tencent/hunyuan-video-t2v-720p/vae/pytorch_model.pt";
    let pipeline: Repository = [
        ("model_index.json", b"{}".to_vec()),
        (
            "transformer/h-Q8_0.gguf",
            read("encodings/transformer.gguf"),
        ),
        ("vae/diffusion_pytorch_model.fp16.bin", weights(vae)),
        (
            "text_encoder/model.fp16-00001-of-00001.safetensors",
            weights(llama),
        ),
        (
            "text_encoder/model.safetensors.index.fp16.json",
            index(llama, shard),
        ),
        ("text_encoder_2/model.fp16.safetensors", weights(clip)),
        ("text_encoder_2/model.bf16.bin", b"not needed".to_vec()),
    ]
    .into();
    assert_eq!(components(&pipeline, None), 4);
    let mut parts = pipeline.clone();
    parts.remove("model_index.json");
    assert_eq!(components(&parts, None), 4);
    let named = "text_encoder/model.safetensors.index.fp16.json";
    assert_eq!(components(&pipeline, Some(named)), 1);
    assert_eq!(
        components(&pipeline, Some("transformer/h-Q8_0.gguf")),
        1,
        "one file of a pipeline"
    );

    let one = |name: &'static str, bytes| Repository::from([(name, bytes)]);
    let gguf = one("h-Q8_0.gguf", read("encodings/transformer.gguf"));
    assert_eq!(components(&gguf, None), 1);
    let fp16 = [
        ("model.fp16-00001-of-00001.safetensors", weights(llama)),
        ("model.safetensors.index.fp16.json", index(llama, shard)),
        ("config.json", b"{}".to_vec()),
    ];
    assert_eq!(components(&fp16.into(), None), 1);
    assert_eq!(components(&one("pytorch_model.bin", weights(vae)), None), 1);
}
