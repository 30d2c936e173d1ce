#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zoo_sdk::host::fuzz::call_backs(bytes));
