use super::*;

#[test]
fn pieces_and_the_whole_have_one_sum() {
    let mut sum = Checksum::default();
    sum.add(b"a");
    sum.add(b"bc");
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((sum.finish().as_str(), sha256(b"abc").as_str()), (known, known));
}
