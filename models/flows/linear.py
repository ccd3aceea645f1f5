"""Linear bijections: permutations, scalings, and matrices in factors (triangular, LU, QR) with their determinant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layer import Layer


class Permutation(Layer):
    """z = x[..., order] along ``dim``; a random order unless one is given. log|det| = 0."""

    def __init__(self, order: int | Tensor, dim: int = 1) -> None:
        super().__init__()
        order = torch.randperm(order) if isinstance(order, int) else order
        self.register_buffer("order", order.clone())
        self.dim = dim

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(self.dim, self.order), x.new_zeros(x.shape[0])

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.index_select(self.dim, self.order.argsort()), z.new_zeros(z.shape[0])


class Reverse(Layer):
    """z = x with the order along ``dim`` reversed. log|det| = 0."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flip(self.dim), x.new_zeros(x.shape[0])

    decode = encode


class PackedLU(nn.Module):
    """An invertible matrix W = P L U in one n x n parameter: L (unit diagonal) below, U above, and log|u_ii| on
    the diagonal; P and the signs of u_ii stay as they were at the start (Kingma & Dhariwal 2018, arXiv 1807.03039,
    eq. 10). log|det W| is the trace of the parameter.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(start)
        diagonal = upper.diagonal()
        self.packed = nn.Parameter(lower.tril(-1) + upper.triu(1) + torch.diag(diagonal.abs().log()))
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())

    def factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.packed), dtype=self.packed.dtype, device=self.packed.device)
        upper = self.packed.triu(1) + torch.diag(self.sign * self.packed.diagonal().exp())
        return self.packed.tril(-1) + identity, upper

    def matrix(self) -> Tensor:
        lower, upper = self.factors()
        return self.permutation @ (lower @ upper)

    def log_abs_det(self) -> Tensor:
        return self.packed.diagonal().sum()

    def solve(self, columns: Tensor) -> Tensor:
        """W^{-1} columns, by two triangular solves; columns (..., n, m)."""
        lower, upper = self.factors()
        half = torch.linalg.solve_triangular(lower, self.permutation.T @ columns, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True)


class PackedTriangular(nn.Module):
    """A lower or upper triangular matrix R from the identity: log r_ii on the diagonal of the parameter."""

    def __init__(self, dim: int, *, upper: bool) -> None:
        super().__init__()
        self.packed, self.upper = nn.Parameter(torch.zeros(dim, dim)), upper

    def matrix(self) -> Tensor:
        strict = self.packed.triu(1) if self.upper else self.packed.tril(-1)
        return strict + torch.diag(self.packed.diagonal().exp())

    def log_abs_det(self) -> Tensor:
        return self.packed.diagonal().sum()

    def solve(self, columns: Tensor) -> Tensor:
        """R^{-1} columns; columns (n, m)."""
        return torch.linalg.solve_triangular(self.matrix(), columns, upper=self.upper)


class Householder(nn.Module):
    """A trainable orthogonal matrix: the product of K reflections H₁ ⋯ H_K, H_k = I - 2 v_k v_kᵀ / |v_k|².

    With V = [v₁ … v_K] the product is I - V U⁻¹ Vᵀ, U the upper triangle of VᵀV with half its diagonal
    (Joffrain et al. 2006, doi 10.1145/1141885.1141886): one triangular solve and no loop over reflections.
    K = D reach every orthogonal matrix of determinant (-1)^D.
    """

    def __init__(self, dim: int, reflections: int) -> None:
        super().__init__()
        if reflections < 1:
            raise ValueError(f"reflections is {reflections}; an orthogonal matrix takes at least one")
        self.vectors = nn.Parameter(torch.randn(dim, reflections))

    def matrix(self) -> Tensor:
        """Q, shape (D, D)."""
        v = F.normalize(self.vectors, dim=0)
        gram = v.T @ v
        upper = gram.triu(1) + torch.diag(gram.diagonal() / 2)
        identity = torch.eye(len(v), dtype=v.dtype, device=v.device)
        return identity - v @ torch.linalg.solve_triangular(upper, v.T, upper=True)


class Rotation(Layer):
    """z = Qᵀx with Q orthogonal, log|det| = 0."""

    def __init__(self, dim: int, reflections: int) -> None:
        super().__init__()
        self.orthogonal = Householder(dim, reflections)

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x @ self.orthogonal.matrix(), x.new_zeros(len(x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z @ self.orthogonal.matrix().T, z.new_zeros(len(z))


class PackedQR(nn.Module):
    """W = Q R with Q a product of ``dim`` Householder reflections and R upper triangular, from a random rotation
    (Hoogeboom et al. 2019, arXiv 1901.11137, section 3.2; Tomczak & Welling 2016, arXiv 1611.09630)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.orthogonal, self.triangular = Householder(dim, dim), PackedTriangular(dim, upper=True)

    def matrix(self) -> Tensor:
        return self.orthogonal.matrix() @ self.triangular.matrix()

    def log_abs_det(self) -> Tensor:
        return self.triangular.log_abs_det()

    def solve(self, columns: Tensor) -> Tensor:
        return self.triangular.solve(self.orthogonal.matrix().T @ columns)


class Linear(Layer):
    """z = W x + b for vectors; ``weight`` has W as ``matrix()``, its ``log_abs_det()`` and ``solve(columns)``."""

    def __init__(self, dim: int, weight: nn.Module) -> None:
        super().__init__()
        self.weight = weight
        self.bias = nn.Parameter(torch.zeros(dim))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.linear(x, self.weight.matrix(), self.bias), self.weight.log_abs_det().expand(x.shape[0])

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.weight.solve((z - self.bias).T).T, self.weight.log_abs_det().expand(z.shape[0])


class LULinear(Linear):
    """z = L U x + b; starts as the identity (Oliva et al. 2018, arXiv 1801.09819; neural spline flows)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, PackedLU(torch.eye(dim)))


class Rescale(Layer):
    """z = e^s x (NICE, arXiv 1410.8516, section 3.3), with ``shift`` e^s x + b, per feature; at first the identity."""

    def __init__(self, dim: int, *, shift: bool = False) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.shift = nn.Parameter(torch.zeros(dim)) if shift else None

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = x * self.log_scale.exp()
        return (z if self.shift is None else z + self.shift), self.log_scale.sum().expand(x.shape[0])

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        moved = z if self.shift is None else z - self.shift
        return moved * (-self.log_scale).exp(), self.log_scale.sum().expand(z.shape[0])


class InvertibleConv1x1(Layer):
    """The same invertible matrix at every pixel, from a random rotation: images (batch, C, H, W).

    log|det| = H W log|det W| (Kingma & Dhariwal 2018, arXiv 1807.03039, eq. 9-11).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = PackedLU(torch.linalg.qr(torch.randn(channels, channels))[0])

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.weight.matrix()[:, :, None, None]), self._log_det(x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.weight.solve(z.flatten(2)).unflatten(2, z.shape[2:]), self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.weight.log_abs_det()).expand(x.shape[0])
