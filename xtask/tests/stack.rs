//! The committed programs fit the stack that the oldest kernels give, whichever kernel runs this.
#![allow(clippy::unwrap_used, reason = "a test fails where the object is not as it expects")]

use std::collections::BTreeMap;

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// Bytes of stack for all functions that have called each other (`MAX_BPF_STACK`).
const ALL: u32 = 512;
/// What each function's part is rounded up to (`check_max_stack_depth` of Linux 6.1; newer kernels round to 16).
const STEP: u32 = 32;
/// Functions that have called each other, at most (`MAX_CALL_FRAMES`).
const FRAMES: usize = 8;

const OBJECTS: [(&str, &[u8], &[&str]); 2] = [
    ("pen.o", include_bytes!("../../pen-ebpf/prebuilt/pen.o"), &["pen_xdp"]),
    (
        "pen-probe.o",
        include_bytes!("../../pen-ebpf/prebuilt/pen-probe.o"),
        &["pen_probe_out", "pen_probe_in"],
    ),
];

#[test]
fn functions_that_call_each_other_fit_the_stack_of_linux_6_1() {
    for (name, bytes, programs) in OBJECTS {
        let functions = functions(bytes);
        for program in programs {
            let (deepest, way) = deepest(&functions, program, 1);
            println!("{name}: {deepest} of {ALL} bytes: {}", way.join(" > "));
            assert!(deepest <= ALL, "{name}: {deepest} bytes, {ALL} allowed: {}", way.join(" > "));
        }
    }
}

#[test]
fn a_function_takes_what_it_reaches_below_its_frame_pointer_and_what_it_calls() {
    let code = |instructions: &[[u8; 8]]| read(&instructions.concat(), 0, |_, imm| format!("at {imm}"));
    // *(u64 *)(r10 - 16) = r1; r2 = *(u8 *)(r10 - 9); *(u32 *)(r10 - 24) = 7
    let plain = [[0x7b, 0x1a, 0xf0, 0xff, 0, 0, 0, 0], [0x71, 0xa2, 0xf7, 0xff, 0, 0, 0, 0]];
    assert_eq!(code(&plain).stack, 16);
    assert_eq!(code(&[plain[0], [0x62, 0x0a, 0xe8, 0xff, 7, 0, 0, 0]]).stack, 24);
    // r3 = r10; r3 += -40; and of another register that was no copy of it
    let copied = [0xbf, 0xa3, 0, 0, 0, 0, 0, 0];
    let lower = [0x07, 0x03, 0, 0, 0xd8, 0xff, 0xff, 0xff];
    assert_eq!((code(&[copied, lower]).stack, code(&[lower]).stack), (40, 0));
    // r3 = r10; r3 = r1; r3 += -40
    assert_eq!(code(&[copied, [0xbf, 0x13, 0, 0, 0, 0, 0, 0], lower]).stack, 0);
    // A call of a function, and one of a helper
    assert_eq!(code(&[[0x85, 0x10, 0, 0, 6, 0, 0, 0], [0x85, 0, 0, 0, 1, 0, 0, 0]]).calls, ["at 6"]);
}

/// What a function needs.
#[derive(Debug, Default)]
struct Function {
    /// Bytes below its frame pointer.
    stack: u32,
    /// Names of functions that it calls.
    calls: Vec<String>,
}

/// The most stack that a function and those it calls take together, and which they are.
fn deepest(functions: &BTreeMap<String, Function>, name: &str, frames: usize) -> (u32, Vec<String>) {
    assert!(frames <= FRAMES, "{name}: more than {FRAMES} functions call each other, or one calls itself");
    let function = &functions[name];
    let called = function.calls.iter().map(|callee| deepest(functions, callee, frames + 1));
    let (below, mut way) = called.max_by_key(|(bytes, _)| *bytes).unwrap_or_default();
    way.insert(0, format!("{name} {}", function.stack));
    (function.stack.max(1).next_multiple_of(STEP) + below, way)
}

/// The functions of an object, by name.
fn functions(bytes: &[u8]) -> BTreeMap<String, Function> {
    let file = ElfFile64::<LittleEndian>::parse(bytes).unwrap();
    let symbols = || file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    let at = |section: SectionIndex, offset: u64| {
        let found =
            symbols().find(|symbol| symbol.section_index() == Some(section) && symbol.address() == offset);
        found.unwrap_or_else(|| panic!("no function at {offset:#x}")).name().unwrap().to_owned()
    };
    symbols()
        .map(|symbol| {
            let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
            let code = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
            let targets: BTreeMap<u64, RelocationTarget> =
                section.relocations().map(|(at, relocation)| (at, relocation.target())).collect();
            // The distance is counted in instructions, from the next one on: within the section, or within the one that
            // the linker is told of.
            let called = |here: u64, distance: i32| match targets.get(&here) {
                None => at(section.index(), (here + 8).checked_add_signed(i64::from(distance) * 8).unwrap()),
                Some(RelocationTarget::Symbol(index)) => {
                    let target = file.symbol_by_index(*index).unwrap();
                    match target.kind() {
                        SymbolKind::Section => {
                            at(target.section_index().unwrap(), (i64::from(distance) + 1) as u64 * 8)
                        }
                        _ => target.name().unwrap().to_owned(),
                    }
                }
                Some(other) => panic!("{other:?}"),
            };
            (symbol.name().unwrap().to_owned(), read(code, symbol.address(), called))
        })
        .collect()
}

/// Reads instructions (RFC 9669) from an offset in their section on; `called` names the function that a call goes to.
fn read(code: &[u8], from: u64, called: impl Fn(u64, i32) -> String) -> Function {
    const FRAME_POINTER: u8 = 10;
    let mut function = Function::default();
    // Registers that hold the frame pointer, and no more.
    let mut copies = [false; 16];
    let mut reaches = |below: i64| function.stack = function.stack.max(u32::try_from(-below).unwrap_or(0));
    for (number, instruction) in code.chunks_exact(8).enumerate() {
        let [opcode, registers, o0, o1, i0, i1, i2, i3] = *instruction else { unreachable!() };
        let (destination, source) = (registers & 0xf, registers >> 4);
        let offset = i64::from(i16::from_le_bytes([o0, o1]));
        let immediate = i32::from_le_bytes([i0, i1, i2, i3]);
        let written = &mut copies[usize::from(destination)];
        match (opcode & 7, opcode) {
            (1, _) if source == FRAME_POINTER => reaches(offset),
            (2 | 3, _) if destination == FRAME_POINTER => reaches(offset),
            (_, 0xbf) => *written = source == FRAME_POINTER && destination != FRAME_POINTER,
            (_, 0x07) if *written => {
                reaches(immediate.into());
                *written = false;
            }
            (5, 0x85) if source == 1 => function.calls.push(called(from + number as u64 * 8, immediate)),
            (1 | 4 | 7, _) => *written = false,
            _ => {}
        }
    }
    function
}
