//! The row scan against its definition in f64, its gradients against finite differences of that.

use super::*;

fn values(len: usize, step: usize, scale: f32) -> Vec<f32> {
    (0..len)
        .map(|i| (((i * step) % 101) as f32 / 50.0 - 1.0) * scale)
        .collect()
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
}

/// The states, by the definition.
fn exact(x: &[f64], w: &[f64], bias: &[f64], s: &RowLstmShape) -> Vec<f64> {
    let (c, margin) = (s.channels, s.kernel / 2);
    let at = |n: usize, channels: usize, ch: usize, row: usize, p: usize| {
        ((n * channels + ch) * s.rows + row) * s.cols + p
    };
    let mut h = vec![0.0; s.batch * c * s.rows * s.cols];
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    for n in 0..s.batch {
        let mut cells = vec![0.0; c * s.cols];
        for row in 0..s.rows {
            for p in 0..s.cols {
                for ch in 0..c {
                    let gate = |gate: usize| {
                        let g = gate * c + ch;
                        let mut sum = x[at(n, 4 * c, g, row, p)] + bias[g];
                        for from in (0..c).filter(|_| row > 0) {
                            for tap in 0..s.kernel {
                                let q = (p + tap).wrapping_sub(margin);
                                if q < s.cols {
                                    sum += w[(g * c + from) * s.kernel + tap]
                                        * h[at(n, c, from, row - 1, q)];
                                }
                            }
                        }
                        sum
                    };
                    let (i, f, o, g) = (gate(0), gate(1), gate(2), gate(3));
                    let cell = &mut cells[ch * s.cols + p];
                    *cell = sigmoid(f) * *cell + sigmoid(i) * g.tanh();
                    h[at(n, c, ch, row, p)] = sigmoid(o) * cell.tanh();
                }
            }
        }
    }
    h
}

#[test]
fn follows_the_definition_and_its_slopes() {
    for (batch, channels, rows, cols, kernel) in [
        (2, 3, 4, 5, 3),
        (1, 16, 3, 7, 3),
        (3, 5, 1, 4, 1),
        (1, 2, 3, 2, 5),
        (2, 8, 2, 9, 3),
    ] {
        let s = RowLstmShape {
            batch,
            channels,
            rows,
            cols,
            kernel,
        };
        let state = batch * channels * rows * cols;
        let (x, bias) = (values(4 * state, 37, 1.5), values(4 * channels, 13, 0.5));
        let w = values(4 * channels * channels * kernel, 53, 0.7);
        let mut saved = vec![f32::NAN; s.saved_len().unwrap()];
        let mut h = vec![f32::NAN; state];
        row_lstm(&x, &w, &bias, &s, &mut saved, &mut h).unwrap();
        let (x64, w64, b64) = (wide(&x), wide(&w), wide(&bias));
        for (h, e) in h.iter().zip(exact(&x64, &w64, &b64, &s)) {
            assert!((f64::from(*h) - e).abs() < 1e-5, "{s:?}: {h} is not {e}");
        }
        let weight = values(state, 29, 1.0);
        let (mut of_x, mut of_w) = (vec![f32::NAN; x.len()], vec![f32::NAN; w.len()]);
        row_lstm_grad(&w, &s, &saved, &h, &weight, &mut of_x, &mut of_w).unwrap();
        let loss = |x: &[f64], w: &[f64]| -> f64 {
            let h = exact(x, w, &b64, &s);
            h.iter().zip(&weight).map(|(h, &v)| h * f64::from(v)).sum()
        };
        let near = |what: &str, i: usize, found: f32, slope: f64| {
            let error = (f64::from(found) - slope).abs();
            assert!(
                error < 2e-4 * (1.0 + slope.abs()),
                "{s:?} {what}[{i}]: {found} is not {slope}"
            );
        };
        for i in (0..x.len()).step_by(x.len() / 60 + 1) {
            let (mut up, mut down) = (x64.clone(), x64.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            near(
                "x",
                i,
                of_x[i],
                (loss(&up, &w64) - loss(&down, &w64)) / 2e-5,
            );
        }
        for i in (0..w.len()).step_by(w.len() / 60 + 1) {
            let (mut up, mut down) = (w64.clone(), w64.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            near(
                "w",
                i,
                of_w[i],
                (loss(&x64, &up) - loss(&x64, &down)) / 2e-5,
            );
        }
    }
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let s = RowLstmShape {
        batch: 19,
        channels: 6,
        rows: 3,
        cols: 5,
        kernel: 3,
    };
    let state = 19 * 6 * 15;
    let (x, w, bias) = (
        values(4 * state, 37, 1.0),
        values(432, 53, 0.5),
        values(24, 7, 0.1),
    );
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut saved = vec![0.0; s.saved_len().unwrap()];
        let (mut h, mut of_x, mut of_w) = (vec![0.0; state], vec![0.0; 4 * state], vec![0.0; 432]);
        pool.install(|| {
            row_lstm(&x, &w, &bias, &s, &mut saved, &mut h).unwrap();
            row_lstm_grad(&w, &s, &saved, &h, &h, &mut of_x, &mut of_w).unwrap();
        });
        let all = h.iter().chain(&of_x).chain(&of_w);
        all.map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert!((2..5).all(|threads| run(threads) == run(1)));
}

#[test]
fn a_row_scan_of_one_row_is_a_step() {
    let s = RowLstmShape {
        batch: 3,
        channels: 2,
        rows: 1,
        cols: 5,
        kernel: 1,
    };
    let (x, w, bias) = (values(120, 37, 1.0), vec![0.0; 16], [0.0; 8]);
    let (mut saved, mut h) = (vec![0.0; s.saved_len().unwrap()], vec![0.0; 30]);
    row_lstm(&x, &w, &bias, &s, &mut saved, &mut h).unwrap();
    let (mut gates, mut out) = (x.clone(), vec![f32::NAN; 60]);
    lstm_cell(&mut gates, &[], 10, &mut out).unwrap();
    for (h, out) in h.chunks(10).zip(out.chunks(20)) {
        assert_eq!(h, &out[..10]);
    }
    // The gradients of a second step, by finite differences of the step itself.
    let before: Vec<f32> = out.chunks(20).flat_map(|o| o[10..].to_vec()).collect();
    let weight = values(60, 29, 1.0);
    let loss = |x: &[f32], before: &[f32]| -> f64 {
        let (mut gates, mut out) = (x.to_vec(), vec![0.0; 60]);
        lstm_cell(&mut gates, before, 10, &mut out).unwrap();
        out.iter()
            .zip(&weight)
            .map(|(o, &w)| f64::from(*o) * f64::from(w))
            .sum()
    };
    let mut gates = x.clone();
    lstm_cell(&mut gates, &before, 10, &mut out).unwrap();
    let (mut grad, mut of_gates) = (weight.clone(), vec![f32::NAN; 120]);
    lstm_cell_grad(&gates, &before, 10, &out, &mut grad, &mut of_gates).unwrap();
    let slope = |v: &[f32], i: usize, f: &dyn Fn(&[f32]) -> f64| {
        let (mut up, mut down) = (v.to_vec(), v.to_vec());
        up[i] += 1e-2;
        down[i] -= 1e-2;
        (f(&up) - f(&down)) / f64::from(up[i] - down[i])
    };
    for (i, found) in of_gates.iter().enumerate() {
        let expected = slope(&x, i, &|x| loss(x, &before));
        assert!((f64::from(*found) - expected).abs() < 2e-3);
    }
    for i in 0..30 {
        let expected = slope(&before, i, &|before| loss(&x, before));
        let found = grad[i / 10 * 20 + 10 + i % 10];
        assert!((f64::from(found) - expected).abs() < 2e-3);
    }
    assert!(lstm_cell(&mut gates, &before[1..], 10, &mut out).is_err());
    assert!(lstm_cell(&mut gates, &before, 7, &mut out).is_err());
    assert!(lstm_cell(&mut gates[1..], &before, 10, &mut out).is_err());
}

#[test]
fn bad_shapes_are_refused() {
    let s = RowLstmShape {
        batch: 1,
        channels: 2,
        rows: 2,
        cols: 2,
        kernel: 2,
    };
    assert!(
        s.saved_len()
            .unwrap_err()
            .to_string()
            .contains("kernel 2 must be odd")
    );
    let s = RowLstmShape { kernel: 3, ..s };
    let mut saved = vec![0.0; s.saved_len().unwrap()];
    let e = row_lstm(
        &[0.0; 31],
        &[0.0; 48],
        &[0.0; 8],
        &s,
        &mut saved,
        &mut [0.0; 8],
    )
    .unwrap_err();
    assert_eq!(
        e.to_string(),
        "row_lstm: `x` has 31 values, the shape needs 32"
    );
    let none = RowLstmShape { batch: 0, ..s };
    row_lstm(&[], &[0.0; 48], &[0.0; 8], &none, &mut [], &mut []).unwrap();
    let mut of_w = [1.0; 48];
    row_lstm_grad(&[0.0; 48], &none, &[], &[], &[], &mut [], &mut of_w).unwrap();
    assert_eq!(of_w, [0.0; 48]);
}
