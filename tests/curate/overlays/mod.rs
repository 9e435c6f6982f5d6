//! Overlays on footage that the test synthesises: how many are found, how many are right.

pub mod footage;
pub mod letters;

use std::{fs, path::Path};

use burn_hunyuan_curate::overlays::{self, Config, Decision, Kind, Overlays};
use footage::{Footage, HEIGHT, WIDTH};
use image::RgbaImage;
use letters::{Backing, Look};
use rayon::prelude::*;

/// What there is to find: borders, subtitles, logos.
const CATEGORIES: [&str; 3] = ["borders", "subtitles", "logos"];

/// A clip of which it is known what lies over it.
struct Case {
    name: String,
    labels: [bool; 3],
    found: Overlays,
}

fn found(overlays: &Overlays) -> [bool; 3] {
    let has = |kind| overlays.regions.iter().any(|region| region.kind == kind);
    [
        !overlays.borders.is_empty(),
        has(Kind::Subtitle),
        has(Kind::Logo),
    ]
}

/// Prints what was taken for what, and gives precision and recall of each category.
fn score(cases: &[Case]) -> [[f32; 2]; 3] {
    for case in cases
        .iter()
        .filter(|case| found(&case.found) != case.labels)
    {
        let (labels, found) = (case.labels, found(&case.found));
        println!("{}: has {labels:?}, found {found:?}", case.name);
        println!("    {:?} {:?}", case.found.borders, case.found.regions);
    }
    let clean = cases
        .iter()
        .filter(|case| case.labels == [false; 3])
        .count();
    println!("{} cases, {clean} of them clean", cases.len());
    std::array::from_fn(|category| {
        let count = |has: bool, found_it: bool| {
            let counted = cases.iter().filter(|case| {
                case.labels[category] == has && found(&case.found)[category] == found_it
            });
            counted.count() as f32
        };
        let (right, wrong, missed) = (count(true, true), count(false, true), count(true, false));
        let (precision, recall) = (right / (right + wrong), right / (right + missed));
        println!(
            "{}: {right} found, {wrong} wrong, {missed} missed; precision {precision:.3}, recall {recall:.3}",
            CATEGORIES[category]
        );
        [precision, recall]
    })
}

/// Writes a clip to `folder` and looks for overlays on it.
fn case(folder: &Path, number: usize, footage: &Footage, drawn: Drawn) -> Case {
    let file = |name: &str| folder.join(format!("{number}-{name}"));
    let mut files = Vec::new();
    for (i, picture) in drawn.pictures.iter().enumerate() {
        files.push(file(&format!("{i}.png")));
        picture.save(&files[i]).unwrap();
    }
    let pictures: Vec<&Path> = files.iter().map(|file| file.as_path()).collect();
    let film = file("film.mkv");
    footage::write(&footage.graph, &pictures, &drawn.filter, &film);
    let frames = footage::frames(&film);
    fs::remove_file(&film).unwrap();
    Case {
        name: format!("{}: {}", footage.name, drawn.name),
        labels: drawn.labels,
        found: overlays::find(&frames, &Config::default()),
    }
}

/// What is done to footage.
struct Drawn {
    name: String,
    labels: [bool; 3],
    pictures: Vec<RgbaImage>,
    filter: String,
}

/// Nothing is laid over the picture; `look` alters all of it.
fn clean(look: &str) -> Drawn {
    Drawn {
        name: look.into(),
        labels: [false; 3],
        pictures: Vec::new(),
        filter: format!("[0:v]{look}"),
    }
}

/// The picture, smaller, within margins.
fn border(variant: usize) -> Drawn {
    let sizes = [[640, 272], [480, 360], [560, 300], [640, 320], [400, 360]];
    let [width, height] = sizes[variant % sizes.len()];
    let color = ["black", "black", "0x161412", "0x204080", "white"][variant % 5];
    let soft = ["", ",gblur=1.5"][variant / 2 % 2];
    let filter = format!("crop={width}:{height},pad={WIDTH}:{HEIGHT}:-1:-1:{color}{soft}");
    Drawn {
        name: filter.clone(),
        labels: [true, false, false],
        filter: format!("[0:v]{filter}"),
        pictures: Vec::new(),
    }
}

const LINES: [&str; 6] = [
    "I NEVER SAID THAT I WOULD",
    "YOU DID, LAST SUMMER AT THE LAKE.",
    "EVERYTHING HAS CHANGED",
    "PRESS THE BUTTON AND STEP AWAY!",
    "WHO IS THERE",
    "WHAT HAPPENS NEXT IS UP TO YOU",
];

/// One line that stays, or two with a pause between; some of two rows.
fn subtitle(variant: usize) -> Drawn {
    let look = Look {
        color: [[255; 3], [250, 235, 60], [235; 3]][variant % 3],
        alpha: 1.0,
        backing: [
            Backing::Outline,
            Backing::Box,
            Backing::Shadow,
            Backing::Outline,
        ][variant % 4],
        height: [14.0, 17.0, 12.0][variant / 2 % 3],
    };
    let y = [0.88, 0.76, 0.06][variant % 3] * HEIGHT as f32;
    let rows = 1 + usize::from(variant % 5 == 4);
    let line = |first: usize| {
        let mut picture = RgbaImage::new(WIDTH, HEIGHT);
        for row in 0..rows {
            let text = LINES[(first + row) % LINES.len()];
            let x = (WIDTH as f32 - letters::width(text, look.height)) / 2.0;
            // Rows grow upwards.
            letters::write(
                &mut picture,
                text,
                x,
                y - 1.6 * look.height * row as f32,
                look,
            );
        }
        picture
    };
    let stays = variant % 3 == 1;
    let (pictures, filter) = if stays {
        (vec![line(variant)], "[0:v][1:v]overlay".to_owned())
    } else {
        let filter =
            "[0:v][1:v]overlay=enable='lt(t,1.7)'[one];[one][2:v]overlay=enable='gt(t,2.1)'";
        (vec![line(variant), line(variant + 1)], filter.to_owned())
    };
    Drawn {
        name: format!("subtitle {look:?} at {y}, {rows} rows, stays: {stays}"),
        labels: [false, true, false],
        pictures,
        filter,
    }
}

/// A badge or letters, opaque or not, in a corner or in the middle; over a still scene clear letters.
fn logo(variant: usize, still: bool) -> Drawn {
    let mut picture = RgbaImage::new(WIDTH, HEIGHT);
    let corner = |width: f32, height: f32| {
        let x = [24.0, WIDTH as f32 - 24.0 - width][variant % 2];
        (x, [20.0, HEIGHT as f32 - 20.0 - height][variant / 2 % 2])
    };
    let kind = if still { 2 } else { variant % 5 };
    let name = match kind {
        0 | 1 => {
            let (x, y) = corner(44.0, 44.0);
            let alpha = [1.0, 0.6][kind];
            letters::badge(&mut picture, x, y, 44.0, alpha);
            format!("badge, opacity {alpha}")
        }
        2 | 3 => {
            let look = Look {
                color: [255; 3],
                alpha: [1.0, 0.55][kind - 2],
                backing: [Backing::Outline, Backing::Nothing][kind - 2],
                height: 18.0,
            };
            let (x, y) = corner(letters::width("NEWS 24", 18.0), 18.0);
            letters::write(&mut picture, "NEWS 24", x, y, look);
            format!("letters {look:?}")
        }
        _ => {
            let look = Look {
                color: [255; 3],
                alpha: 0.4,
                backing: Backing::Nothing,
                height: 56.0,
            };
            let x = (WIDTH as f32 - letters::width("PREVIEW", 56.0)) / 2.0;
            letters::write(&mut picture, "PREVIEW", x, 150.0, look);
            "letters across the middle".to_owned()
        }
    };
    Drawn {
        name,
        labels: [false, false, true],
        pictures: vec![picture],
        filter: "[0:v][1:v]overlay".into(),
    }
}

#[test]
fn nine_of_ten_overlays_are_found_and_nine_of_ten_found_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let clean_looks = [
        "null",
        "hflip,eq=brightness=-0.1",
        "vflip,eq=contrast=0.7:saturation=1.5",
    ];
    let mut jobs: Vec<(Footage, Drawn)> = Vec::new();
    for (variant, look) in clean_looks.iter().enumerate() {
        jobs.extend(
            footage::all(variant as u32)
                .into_iter()
                .map(|footage| (footage, clean(look))),
        );
        for (i, footage) in footage::all(variant as u32 + 3).into_iter().enumerate() {
            let drawn = match variant {
                0 => border(i),
                1 => subtitle(i),
                _ => logo(i, footage.still),
            };
            jobs.push((footage, drawn));
        }
    }
    let cases: Vec<Case> = jobs
        .into_par_iter()
        .enumerate()
        .map(|(number, (footage, drawn))| case(folder.path(), number, &footage, drawn))
        .collect();
    assert!(cases.len() >= 60);
    for (category, [precision, recall]) in CATEGORIES.into_iter().zip(score(&cases)) {
        assert!(
            precision >= 0.9 && recall >= 0.9,
            "{category}: {precision} {recall}"
        );
    }
}

#[test]
fn subtitles_are_cut_away_and_a_mark_across_the_middle_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let pan = || footage::all(9).swap_remove(0);
    let below = case(folder.path(), 0, &pan(), subtitle(0)).found;
    let Decision::Crop(kept) = below.crop(&Config::default()) else {
        panic!("{below:?}");
    };
    assert!(
        kept.top == 0.0 && kept.bottom < 0.88 && kept.bottom > 0.8,
        "{kept:?}"
    );
    let across = case(folder.path(), 1, &pan(), logo(4, false)).found;
    let decision = across.crop(&Config::default());
    assert!(matches!(decision, Decision::Reject(_)), "{decision:?}");
    let nothing = case(folder.path(), 2, &pan(), clean("null")).found;
    assert_eq!(nothing.crop(&Config::default()), Decision::Keep);
}

/// Text that changes shares its rows with the logo, so that both look like one block.
#[test]
fn a_logo_in_a_row_of_changing_subtitles_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let row = |logo: bool| {
        let mut drawn = subtitle(2);
        if logo {
            let mut picture = RgbaImage::new(WIDTH, HEIGHT);
            let look = Look {
                color: [255; 3],
                alpha: 1.0,
                backing: Backing::Outline,
                height: 17.0,
            };
            let line = letters::width(LINES[3], look.height);
            let x = (WIDTH as f32 - line) / 2.0 - letters::width("TV", look.height) - look.height;
            letters::write(&mut picture, "TV", x, 0.06 * HEIGHT as f32, look);
            drawn.pictures.push(picture);
            drawn.filter += "[two];[two][3:v]overlay";
        }
        let pan = footage::all(9).swap_remove(0);
        found(&case(folder.path(), usize::from(logo), &pan, drawn).found)
    };
    assert_eq!(row(false), [false, true, false]);
    assert_eq!(row(true), [false, true, true]);
}

/// The same on real clips: `tests/reference/overlays.py CLIP… --output DIR` draws on them.
#[test]
#[ignore = "needs cases from tests/reference/overlays.py in the folder OVERLAY_CASES"]
fn overlays_on_given_clips() {
    #[derive(serde::Deserialize)]
    struct Listed {
        file: String,
        footage: String,
        drawn: String,
        borders: bool,
        subtitles: bool,
        logos: bool,
    }
    let folder = std::env::var("OVERLAY_CASES").expect("OVERLAY_CASES names a folder");
    let folder = Path::new(&folder);
    let list = fs::read_to_string(folder.join("cases.json")).unwrap();
    let list: Vec<Listed> = serde_json::from_str(&list).unwrap();
    let case = |case: Listed| Case {
        name: format!("{}: {}", case.footage, case.drawn),
        labels: [case.borders, case.subtitles, case.logos],
        found: overlays::find(
            &footage::frames(&folder.join(case.file)),
            &Config::default(),
        ),
    };
    let cases: Vec<Case> = list.into_par_iter().map(case).collect();
    println!("all clips:");
    score(&cases);
    // Where nothing moves, a mark without letters cannot be told from the scene.
    let (moving, _): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .partition(|case| case.found.stillness < Config::default().still);
    println!("clips that move:");
    score(&moving);
}
