//! Which files of a repository are downloaded.

use burn_hunyuan::checkpoint::hub::needed;

#[test]
fn one_set_of_weights_for_each_part() {
    let choose = |files: &[&str]| needed(&files.iter().map(|f| f.to_string()).collect::<Vec<_>>());
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
    let others = [
        "a.gguf",
        "b/c.safetensors",
        "config.json",
        "notes.md",
        "x.onnx",
    ];
    assert_eq!(
        choose(&others),
        ["a.gguf", "b/c.safetensors", "config.json"]
    );
}
