use std::collections::BTreeSet;

use kalamdb_commons::ids::{Incarnation, PartitionId, Scope, TableId, TableRef, UserId};
use proptest::prelude::*;

use super::*;

fn table() -> TableRef {
    TableRef::new("app", "messages").unwrap()
}

fn space_of(incarnation: u32, scope: Scope) -> KeySpace {
    KeySpace::new(&table(), TableId(7), &PartitionId { incarnation: Incarnation(incarnation), scope })
}

fn user(name: &str) -> Scope {
    Scope::User(UserId::new(name).unwrap())
}

fn scopes() -> impl Strategy<Value = Scope> {
    // Few letters, so that prefixes are frequent; `é` and `\u{10ffff}` for bytes above ASCII.
    prop_oneof![Just(Scope::Shared), "[abé\u{10ffff}]{1,5}".prop_map(|name| user(&name))]
}

#[test]
fn the_layout_is_the_one_that_is_on_disk() {
    let shared = space_of(0x0102_0304, Scope::Shared);
    let hash = shared.hash().to_be_bytes();
    let expected = [&hash[..], b"R", &[1, 2, 3, 4], &[1], &[0x80, 0, 0, 0, 0, 0, 0, 5]].concat();
    assert_eq!(current(&shared, RowId(5)), expected);

    let ann = space_of(1, user("ann"));
    let hash = ann.hash().to_be_bytes();
    let expected = [&hash[..], b"L", &[0, 0, 0, 1], &[2], b"ann\0\0", &[0x80, 0, 0, 0, 0, 0, 0, 9]].concat();
    assert_eq!(change(&ann, CommitTime(9)), expected);
    assert_eq!(system("table", "7"), &b"\0\0\x01table\0\x007"[..]);
    // Golden: a change of the hash would lose every hot row of an existing store.
    assert_eq!((shared.hash(), ann.hash()), (GOLDEN_SHARED, GOLDEN_ANN));
}

const GOLDEN_SHARED: u16 = 0xb784;
const GOLDEN_ANN: u16 = 0x20a7;

#[test]
fn tables_of_one_user_lie_together_and_shared_tables_apart() {
    let other = TableRef::new("app", "rooms").unwrap();
    let at = |table: &TableRef, id, scope| {
        KeySpace::new(table, TableId(id), &PartitionId { incarnation: Incarnation(id), scope }).hash()
    };
    assert_eq!(at(&table(), 1, user("ann")), at(&other, 2, user("ann")));
    assert_ne!(at(&table(), 1, Scope::Shared), at(&other, 2, Scope::Shared));
}

#[test]
fn system_records_sort_apart_from_rows() {
    let end = prefix_end(&[0, 0, SYSTEM]);
    for kind in [CURRENT, SUPERSEDED, CHANGE, UNIQUE] {
        assert!([0, 0, kind][..] >= end[..]);
    }
    assert!(!system("ab", "c").starts_with(&system_prefix("a")));
    assert_eq!(system_name_of(&system("table", "x\0y")).unwrap(), ("table".to_owned(), "x\0y".to_owned()));
}

#[test]
fn a_prefix_ends_before_the_next_key() {
    assert_eq!(prefix_end(b"ab"), &b"ac"[..]);
    assert_eq!(prefix_end(b"a\xff\xff"), &b"b"[..]);
    assert!(prefix_end(b"\xff\xff").is_empty());
    assert!(prefix_end(b"").is_empty());
}

#[test]
fn keys_of_the_wrong_kind_are_refused() {
    let space = space_of(1, Scope::Shared);
    assert!(row_id_of(&change(&space, CommitTime(1))).is_err());
    assert!(change_time_of(&current(&space, RowId(1))).is_err());
    assert!(superseded_time_of(&current(&space, RowId(1))).is_err());
    assert!(partition_of(&system("partition", "x")).is_err());
    assert!(system_name_of(&current(&space, RowId(1))).is_err());
    for short in [&b""[..], b"a", b"abR"] {
        assert!(row_id_of(short).is_err());
    }
}

proptest! {
    #[test]
    fn no_partition_is_a_prefix_of_another(a in scopes(), b in scopes(), i in 0u32..3, j in 0u32..3) {
        let (one, two) = (space_of(i, a.clone()), space_of(j, b.clone()));
        prop_assume!((i, a) != (j, b));
        for (one, two) in partition_prefixes(&one).iter().zip(&partition_prefixes(&two)) {
            prop_assert!(!one.starts_with(two) && !two.starts_with(one));
        }
        let (one, two) = (partition_record(&one), partition_record(&two));
        prop_assert!(!one.starts_with(&two) && !two.starts_with(&one));
    }

    #[test]
    fn order_of_bytes_is_order_of_numbers(scope in scopes(), a in any::<i64>(), b in any::<i64>(), c in any::<i64>(), d in any::<i64>()) {
        let space = space_of(1, scope);
        prop_assert_eq!(current(&space, RowId(a)).cmp(&current(&space, RowId(b))), a.cmp(&b));
        prop_assert_eq!(change(&space, CommitTime(a)).cmp(&change(&space, CommitTime(b))), a.cmp(&b));
        let version = |row, time| superseded(&space, RowId(row), CommitTime(time));
        prop_assert_eq!(version(a, c).cmp(&version(b, d)), (a, c).cmp(&(b, d)));
    }

    #[test]
    fn scopes_keep_their_order(a in scopes(), b in scopes()) {
        let record = |scope: &Scope| partition_record(&space_of(3, scope.clone()));
        prop_assert_eq!(record(&a).cmp(&record(&b)), a.cmp(&b));
    }

    #[test]
    fn keys_lie_under_their_prefixes_and_before_their_ends(scope in scopes(), row in any::<i64>(), time in any::<i64>(), tail in any::<Vec<u8>>()) {
        let space = space_of(u32::MAX, scope);
        let pairs = [
            (current(&space, RowId(row)), current_prefix(&space)),
            (superseded(&space, RowId(row), CommitTime(time)), superseded_row_prefix(&space, RowId(row))),
            (superseded(&space, RowId(row), CommitTime(time)), superseded_prefix(&space)),
            (change(&space, CommitTime(time)), change_prefix(&space)),
            (unique(&space, 3, &tail), unique_prefix(&space, 3)),
            (partition_record(&space), partition_records_prefix(Incarnation(u32::MAX))),
            (partition_record(&space), all_partition_records_prefix()),
        ];
        for (key, prefix) in pairs {
            prop_assert!(key.starts_with(&prefix));
            prop_assert!(key < prefix_end(&prefix));
        }
    }

    #[test]
    fn keys_round_trip(scope in scopes(), row in any::<i64>(), time in any::<i64>()) {
        let space = space_of(9, scope);
        let version = superseded(&space, RowId(row), CommitTime(time));
        prop_assert_eq!(row_id_of(&current(&space, RowId(row))).unwrap(), RowId(row));
        prop_assert_eq!(row_id_of(&version).unwrap(), RowId(row));
        prop_assert_eq!(superseded_time_of(&version).unwrap(), CommitTime(time));
        prop_assert_eq!(change_time_of(&change(&space, CommitTime(time))).unwrap(), CommitTime(time));
        prop_assert_eq!(&partition_of(&partition_record(&space)).unwrap(), space.partition());
    }

    #[test]
    fn damaged_keys_and_values_never_panic(bytes in any::<Vec<u8>>(), prefix in 0usize..3) {
        let start = [&b""[..], &all_partition_records_prefix(), &[0, 0, CURRENT]][prefix].to_vec();
        let key = [start, bytes].concat();
        let _ = (row_id_of(&key), change_time_of(&key), superseded_time_of(&key), partition_of(&key));
        let _ = (system_name_of(&key), ChangeEntry::decode(&key), UniqueEntry::decode(&key), PartitionRecord::decode(&key));
    }

    #[test]
    fn small_values_round_trip(row in any::<i64>(), kind in 0usize..3, previous in any::<Option<i64>>(), time in any::<i64>()) {
        let kind = [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete][kind];
        let entry = ChangeEntry { row_id: RowId(row), kind, previous: previous.map(CommitTime), open: row % 2 == 0 };
        prop_assert_eq!(ChangeEntry::decode(&entry.encode()).unwrap(), entry);
        let entry = UniqueEntry { row_id: RowId(row), updated: CommitTime(time) };
        prop_assert_eq!(UniqueEntry::decode(&entry.encode()).unwrap(), entry);
    }

    #[test]
    fn terminated_bytes_are_injective(parts in prop::collection::btree_set(prop::collection::vec(0u8..3, 0..6), 2..12)) {
        let encoded: Vec<Vec<u8>> = parts.iter().map(|part| {
            let mut out = Vec::new();
            put_terminated(&mut out, part);
            out
        }).collect();
        prop_assert!(encoded.is_sorted());
        prop_assert_eq!(encoded.iter().collect::<BTreeSet<_>>().len(), parts.len());
        for (part, encoded) in parts.iter().zip(&encoded) {
            let followed = [&encoded[..], b"more"].concat();
            prop_assert_eq!(take_terminated(&followed), Some((part.clone(), &b"more"[..])));
        }
    }
}

#[test]
fn a_partition_record_round_trips() {
    let record = PartitionRecord {
        table: table(),
        manifest_version: 3,
        flushed_through: CommitTime(5),
        reserved_batch: 8,
        change_log_trimmed_through: CommitTime(4),
    };
    assert_eq!(PartitionRecord::decode(&record.encode()).unwrap(), record);
    assert!(matches!(PartitionRecord::decode(b"{"), Err(StoreError::Corrupt { .. })));
}
