//! GIF through our own reader.

use burn_hunyuan::video::RgbImage;
use tempfile::TempDir;

use crate::pictures::{patches, psnr, read, smooth, write};

#[test]
fn gif_keeps_few_colours_exactly_and_many_closely() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.gif");
    write(&path, &[patches(), patches()], 24.0);
    assert!(read(&path).1.iter().all(|frame| *frame == patches()));

    let frames: Vec<_> = (0..3).map(|i| smooth(101, 77, i)).collect();
    write(&path, &frames, 24.0);
    let decoded = read(&path).1;
    assert_eq!(decoded.len(), 3);
    for (a, b) in frames.iter().zip(&decoded) {
        let psnr = psnr(a, b);
        assert!(psnr >= 30.0, "{psnr:.1} dB");
        // Dithering keeps the mean of an area where the palette misses its colours.
        for channel in 0..3 {
            let mean = |image: &RgbImage| {
                let area = image
                    .enumerate_pixels()
                    .filter(|(x, y, _)| *x < 16 && *y < 16);
                area.map(|(_, _, p)| f64::from(p[channel])).sum::<f64>() / 256.0
            };
            assert!((mean(a) - mean(b)).abs() < 1.0, "{} {}", mean(a), mean(b));
        }
    }
}

#[test]
fn gif_delays_add_up() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.gif");
    let frame = smooth(16, 16, 0);
    for fps in [24.0, 23.976, 30.0, 7.5] {
        write(&path, &vec![frame.clone(); 60], fps);
        let fps_read = read(&path).0;
        // 60 frames, their whole length rounded to 1/100 s.
        assert!(
            (60.0 / fps_read - 60.0 / fps).abs() <= 0.005 + 1e-9,
            "{fps}: {fps_read}"
        );
    }
}

#[test]
fn gif_pictures_are_composed() {
    // Red, then a green pixel over it at (1, 0), then one at (0, 0) with the former taken away.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.gif");
    let mut file = std::fs::File::create(&path).unwrap();
    let palette = [255, 0, 0, 0, 255, 0];
    let mut encoder = gif::Encoder::new(&mut file, 2, 1, &palette).unwrap();
    let picture = |left, width: u16, index: u8, dispose| gif::Frame {
        left,
        width,
        height: 1,
        delay: 10,
        dispose,
        buffer: vec![index; width.into()].into(),
        ..Default::default()
    };
    for frame in [
        picture(0, 2, 0, gif::DisposalMethod::Keep),
        picture(1, 1, 1, gif::DisposalMethod::Previous),
        picture(0, 1, 1, gif::DisposalMethod::Keep),
    ] {
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    let (fps, frames) = read(&path);
    let (red, green) = ([255, 0, 0], [0, 255, 0]);
    let expected = [[red, red], [red, green], [green, red]].map(|f| f.concat());
    assert_eq!(
        frames.iter().map(|f| f.to_vec()).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(fps, 10.0);
}
