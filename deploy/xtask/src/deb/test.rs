//! The package around stand-ins for the programs: `cargo xtask deb` itself is
//! run by `tests/run`.

use super::*;

fn sources(place: &Path) -> Sources {
    let root = workspace::root().expect("the workspace");
    for program in PROGRAMS {
        fs::create_dir_all(place.join("bin")).expect("made");
        fs::copy("/bin/true", place.join("bin").join(program)).expect("copied");
    }
    Sources {
        root,
        target: place.to_owned(),
        programs: place.join("bin"),
        small: false,
    }
}

#[test]
fn a_package_is_whole_and_the_same_sources_give_the_same_bytes() {
    let place = tempfile::tempdir().expect("a directory");
    let sources = sources(place.path());
    for (path, text) in [
        ("completions/cloudctl.bash", "complete cloudctl\n"),
        ("man/cloudctl.1", ".TH CLOUDCTL 1\n"),
        ("man/notes.txt", "not a page\n"),
    ] {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    let mut packages = Vec::new();
    for out in ["one", "two"] {
        let out = place.path().join(out);
        fs::create_dir_all(&out).expect("made");
        let package = pack(&sources, &out).expect("packed");
        let said = inspect::inspect(&package).expect("sound");
        for file in ["bash-completion/completions/cloudctl", "man1/cloudctl.1.gz"] {
            assert!(said.contains(file), "{file} in {said}");
        }
        assert!(!said.contains("notes.txt"), "{said}");
        assert_eq!(
            fs::read_dir(&out).expect("readable").count(),
            1,
            "no stage stays"
        );
        packages.push(fs::read(package).expect("readable"));
    }
    assert_eq!(packages[0], packages[1]);
}

#[test]
fn a_missing_program_fails_by_its_name() {
    let place = tempfile::tempdir().expect("a directory");
    let sources = sources(place.path());
    fs::remove_file(place.path().join("bin/cloud-agent")).expect("removed");
    let error = pack(&sources, place.path()).expect_err("not whole");
    assert!(format!("{error:#}").contains("cloud-agent"), "{error:#}");
}
