//! SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024, <https://arxiv.org/abs/2409.11321>, algorithm 3).
//!
//! A matrix of weights G (m,n) has covariances of its rows, L = E[G G'] (m,m), and columns, R = E[G' G] (n,n). In their eigenvectors the gradient's entries are
//! nearly uncorrelated, so that Adam's division by each entry's own size fits the loss much better.

use candle_core::{D, DType, Device, Tensor};

use crate::Result;

/// Sides longer than this keep their own basis: the work of a turn grows with the square of a side, that of a new basis with its cube.
const LONGEST: usize = 512;

/// Updates between new bases (the paper's precondition frequency).
const REFRESH: u64 = 10;

/// Moments of a matrix of weights in a turning basis. Kernels (O,C,KH,KW) are matrices (O,C*KH*KW).
#[derive(Debug)]
pub(super) struct Rotated {
    /// First moment, in the weights' own basis (m,n).
    pub m: Tensor,
    /// Second moment, in the turned basis (m,n).
    pub v: Tensor,
    /// Of rows and columns; `None` where a side is too long.
    pub sides: [Option<Side>; 2],
    /// Gradients seen.
    pub updates: u64,
}

/// One side's covariance and its eigenvectors, as columns; both (k,k).
#[derive(Debug)]
pub(super) struct Side {
    pub covariance: Tensor,
    pub basis: Tensor,
}

/// What an update multiplies by.
pub(super) struct Step {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
}

impl Rotated {
    /// For weights of this shape; `None` where no side gains by a basis of its own.
    pub fn new(shape: &[usize], device: &Device) -> Result<Option<Self>> {
        let Some((&rows, rest)) = shape.split_first() else {
            return Ok(None);
        };
        let columns: usize = rest.iter().product();
        let gains = |side: usize| side <= LONGEST;
        if rows < 2 || columns < 2 || !(gains(rows) || gains(columns)) {
            return Ok(None);
        }
        let zeros = |shape| Tensor::zeros(shape, DType::F32, device);
        let side = |k: usize| -> Result<Option<Side>> {
            if !gains(k) {
                return Ok(None);
            }
            Ok(Some(Side {
                covariance: zeros((k, k))?,
                basis: Tensor::eye(k, DType::F32, device)?,
            }))
        };
        Ok(Some(Self {
            m: zeros((rows, columns))?,
            v: zeros((rows, columns))?,
            sides: [side(rows)?, side(columns)?],
            updates: 0,
        }))
    }

    /// The direction to go against, (m,n), for a gradient in the weights' shape; `None` at the first update, which finds the first bases only.
    pub fn direction(&mut self, gradient: &Tensor, step: &Step) -> Result<Option<Tensor>> {
        let g = gradient.reshape(self.m.dims())?; // (m,n)
        let across = g.t()?; // (n,m)
        self.updates += 1;
        for (side, by) in self.sides.iter_mut().zip([&g, &across]) {
            if let Some(side) = side {
                let new = (by.matmul(&by.t()?)? * (1.0 - step.beta2))?; // (k,k)
                side.covariance = ((&side.covariance * step.beta2)? + new)?;
            }
        }
        if self.updates == 1 {
            // From the identity, a few turns come near enough to the eigenvectors.
            for _ in 0..8 {
                self.refresh()?;
            }
            return Ok(None);
        }
        self.m = ((&self.m * step.beta1)? + (&g * (1.0 - step.beta1))?)?;
        let turned = self.turn(&g)?; // (m,n)
        self.v = ((&self.v * step.beta2)? + (turned.sqr()? * (1.0 - step.beta2))?)?;
        let t = (self.updates - 1) as f64;
        let (correct1, correct2) = (1.0 - step.beta1.powf(t), 1.0 - step.beta2.powf(t));
        let root = ((&self.v / correct2)?.sqrt()? + step.epsilon)?;
        let direction = (self.turn(&self.m)? / correct1)?.div(&root)?;
        let direction = self.turn_back(&direction)?; // (m,n)
        if self.updates.is_multiple_of(REFRESH) {
            self.refresh()?;
        }
        Ok(Some(direction.reshape(gradient.shape())?))
    }

    /// L' x R, into the bases.
    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let [rows, columns] = &self.sides;
        let mut x = x.clone();
        if let Some(side) = rows {
            x = side.basis.t()?.matmul(&x)?;
        }
        if let Some(side) = columns {
            x = x.matmul(&side.basis)?;
        }
        Ok(x)
    }

    /// L x R', out of them.
    fn turn_back(&self, x: &Tensor) -> Result<Tensor> {
        let [rows, columns] = &self.sides;
        let mut x = x.clone();
        if let Some(side) = rows {
            x = side.basis.matmul(&x)?;
        }
        if let Some(side) = columns {
            x = x.matmul(&side.basis.t()?)?;
        }
        Ok(x)
    }

    /// Each basis by one power iteration: the orthonormal columns of covariance times basis, the largest first (algorithm 4).
    fn refresh(&mut self) -> Result<()> {
        for (axis, side) in self.sides.iter_mut().enumerate() {
            let Some(Side { covariance, basis }) = side else {
                continue;
            };
            let image = covariance.matmul(basis)?; // (k,k)
            let sizes = (&*basis * &image)?.sum(0)?.to_vec1::<f32>()?;
            let mut order: Vec<u32> = (0..sizes.len() as u32).collect();
            order.sort_by(|&a, &b| sizes[b as usize].total_cmp(&sizes[a as usize]));
            let order = Tensor::new(order, image.device())?;
            self.v = self.v.index_select(&order, axis)?;
            let image = image.index_select(&order, D::Minus1)?;
            let (k, device) = (image.dim(0)?, image.device().clone());
            let mut columns = image.flatten_all()?.to_vec1::<f32>()?;
            zoo_kernels::orthonormal(k, &mut columns).map_err(candle_core::Error::wrap)?;
            *basis = Tensor::from_vec(columns, (k, k), &Device::Cpu)?.to_device(&device)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
    };

    /// A gradient (rows,columns) for each update: along directions of very different sizes, and never twice the same.
    fn gradient(rows: usize, columns: usize, update: usize) -> Tensor {
        let value = |at: usize| {
            let (i, j, t) = (at / columns, at % columns, update as f64);
            let wave = |a: f64| (1.3 * a * t + 0.7 * a * i as f64 - 0.9 * j as f64 / a).sin();
            (wave(1.0) + 0.3 * wave(2.0) + 0.1 * wave(3.7)) as f32
        };
        let values: Vec<f32> = (0..rows * columns).map(value).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn directions_are_those_of_the_algorithm() {
        // The same in numpy and f64, after algorithm 3 of the paper: updates 2, 11 and 25, with new bases at 10 and 20.
        let expected = [
            (
                2,
                [
                    0.8499f32, 0.4848, 0.7265, -0.0788, 0.8135, 0.5886, 0.4183, -0.3126, 0.2294,
                    -0.8185, 2.3061, 1.7852,
                ],
            ),
            (
                11,
                [
                    0.0780, 0.0899, -0.0588, 0.0013, -0.0462, -0.0402, -0.0704, -0.1267, 0.0980,
                    0.1256, 0.1125, 0.0075,
                ],
            ),
            (
                25,
                [
                    0.1047, -0.0466, -0.0415, 0.0004, -0.0357, 0.0291, -0.1136, 0.0034, 0.0741,
                    0.0670, -0.0086, -0.0864,
                ],
            ),
        ];
        let mut rotated = Rotated::new(&[3, 2, 2], &Device::Cpu).unwrap().unwrap();
        for update in 1..=25 {
            let g = gradient(3, 4, update).reshape((3, 2, 2)).unwrap();
            let direction = rotated.direction(&g, &STEP).unwrap();
            assert_eq!(direction.is_none(), update == 1);
            let Some((_, expected)) = expected.iter().find(|(at, _)| *at == update) else {
                continue;
            };
            let direction = direction.unwrap();
            assert_eq!(direction.dims(), [3, 2, 2]);
            for (found, expected) in values(&direction).iter().zip(expected) {
                assert!((found - expected).abs() < 2e-3, "{update}: {direction}");
            }
        }
    }

    #[test]
    fn bases_turn_to_the_eigenvectors_the_largest_first() {
        let mut rotated = Rotated::new(&[5, 7], &Device::Cpu).unwrap().unwrap();
        for update in 1..=400 {
            rotated.direction(&gradient(5, 7, update), &STEP).unwrap();
        }
        // Against a covariance that stays, power iterations end at its eigenvectors.
        for _ in 0..200 {
            rotated.refresh().unwrap();
        }
        for side in rotated.sides.iter().flatten() {
            let turned = side.basis.t().unwrap().matmul(&side.covariance).unwrap();
            let turned = turned.matmul(&side.basis).unwrap();
            let k = turned.dim(0).unwrap();
            let turned = values(&turned);
            for at in 0..k * k {
                let (i, j) = (at / k, at % k);
                if i != j {
                    assert!(
                        turned[at].abs() < 1e-3 * turned[0],
                        "{i}, {j}: {}",
                        turned[at]
                    );
                }
                if i == j && i > 0 {
                    assert!(turned[at] <= turned[at - k - 1] + 1e-4 * turned[0]);
                }
            }
        }
    }

    #[test]
    fn the_second_moments_follow_their_directions() {
        let mut rotated = Rotated::new(&[2, 2], &Device::Cpu).unwrap().unwrap();
        // The larger direction is the second: a new basis puts it first, with its moments.
        let diagonal = |a: f32, b: f32| Tensor::new(&[[a, 0.], [0., b]], &Device::Cpu).unwrap();
        for side in rotated.sides.iter_mut().flatten() {
            side.covariance = diagonal(1.0, 4.0);
        }
        rotated.v = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu).unwrap();
        rotated.refresh().unwrap();
        assert_eq!(values(&rotated.v), [4., 3., 2., 1.]);
        for side in rotated.sides.iter().flatten() {
            let basis: Vec<f32> = values(&side.basis).iter().map(|v| v.abs()).collect();
            assert_eq!(basis, [0., 1., 1., 0.]);
        }
    }
}
