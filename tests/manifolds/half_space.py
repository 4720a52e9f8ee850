"""A manifold of a user's own: the upper half-space, written with the abstract operations alone."""

import torch

from manifolds import AbstractManifold, PoincareBall


class HalfSpace(AbstractManifold):
    """Points ``p`` with ``p_n > 0`` and the metric ``|dp|²/(c p_n²)``, computed in float64 through the ball.

    Both ways the map is the inversion ``p -> 2(p + e)/|p + e|² - e`` about ``-e``, with ``e = (0, ..., 1)``.
    """

    name = "HalfSpace"

    def __init__(self, c=1.0):
        super().__init__()
        self.ball = PoincareBall(c)

    @property
    def curvature(self):
        return self.ball.curvature

    @staticmethod
    def _shifted(p):
        e = torch.zeros_like(p[..., :1])
        return p + torch.cat([torch.zeros_like(p[..., 1:]), e + 1.0], dim=-1)

    def _invert(self, p):
        w = self._shifted(p)
        image = 2.0 * w / w.square().sum(-1, keepdim=True)
        return torch.cat([image[..., :-1], image[..., -1:] - 1.0], dim=-1)

    def _differential(self, p, v):
        w = self._shifted(p)
        size = w.square().sum(-1, keepdim=True)
        return 2.0 / size * (v - 2.0 * (w * v).sum(-1, keepdim=True) / size * w)

    def _down(self, *points):
        """Points in the ball, in float64."""
        return [self._invert(p.double()) / self.curvature.sqrt() for p in points]

    def _up(self, x, like):
        """A point of the ball in the half-space, in the dtype of ``like`` or float32."""
        x = x * self.curvature.sqrt()
        w = self._shifted(x)
        size = w.square().sum(-1, keepdim=True)
        height = (1.0 - x.square().sum(-1, keepdim=True)) / size
        return self.projx(torch.cat([2.0 * x[..., :-1] / size, height], dim=-1).to(self._stored(like)))

    def _down_vector(self, p, v):
        return self._differential(p.double(), v.double()) / self.curvature.sqrt()

    def _up_vector(self, x, v, like):
        root = self.curvature.sqrt()
        return self._differential(x * root, v * root).to(self._stored(like))

    @staticmethod
    def _stored(like):
        return torch.promote_types(like.dtype, torch.float32)

    def origin(self, *size, dtype=None, device=None):
        return self._shifted(torch.zeros(*size, dtype=dtype, device=device))

    def tangent0(self, features):
        return self._differential(torch.zeros_like(features), features * self.curvature.sqrt()).to(features.dtype)

    def features0(self, v):
        return (self._differential(self.origin(*v.shape, dtype=v.dtype), v) / self.curvature.sqrt()).to(v.dtype)

    def projx(self, x):
        return torch.cat([x[..., :-1], x[..., -1:].clamp(min=torch.finfo(x.dtype).tiny)], dim=-1)

    def proju(self, x, v):
        return v.expand(torch.broadcast_shapes(x.shape, v.shape))

    def check_point(self, x):
        return super().check_point(x) or (None if bool((x[..., -1] > 0).all()) else "HalfSpace needs x[..., -1] > 0")

    def dist(self, x, y, *, keepdim=False):
        return self.ball.dist(*self._down(x, y), keepdim=keepdim).to(self._stored(x))

    def sqdist(self, x, y, *, keepdim=False):
        return self.ball.sqdist(*self._down(x, y), keepdim=keepdim).to(self._stored(x))

    def dist0(self, x, *, keepdim=False):
        return self.ball.dist0(*self._down(x), keepdim=keepdim).to(self._stored(x))

    def pairwise_dist(self, x, y=None):
        return self.ball.pairwise_dist(*self._down(x, *(() if y is None or y is x else (y,)))).to(self._stored(x))

    def expmap(self, x, v):
        return self._up(self.ball.expmap(*self._down(x), self._down_vector(x, v)), x)

    def logmap(self, x, y):
        down = self._down(x, y)
        return self._up_vector(down[0], self.ball.logmap(*down), x)

    def expmap0(self, v):
        return self._up(self.ball.expmap0(self.features0(v.double())), v)

    def logmap0(self, y):
        return self.tangent0(self.ball.logmap0(*self._down(y))).to(self._stored(y))

    def transp(self, x, y, v):
        down = self._down(x, y)
        return self._up_vector(down[1], self.ball.transp(*down, self._down_vector(x, v)), x)

    def transp0(self, y, v):
        (down,) = self._down(y)
        return self._up_vector(down, self.ball.transp0(down, self.features0(v.double())), y)

    def transp0back(self, x, v):
        return self.tangent0(self.ball.transp0back(*self._down(x), self._down_vector(x, v))).to(self._stored(x))

    def inner(self, x, u, v=None, *, keepdim=False):
        v = u if v is None else v
        vectors = (self._down_vector(x, w) for w in (u, v))
        return self.ball.inner(*self._down(x), *vectors, keepdim=keepdim).to(self._stored(x))

    def norm(self, x, v, *, keepdim=False):
        return self.ball.norm(*self._down(x), self._down_vector(x, v), keepdim=keepdim).to(self._stored(x))

    def egrad2rgrad(self, x, u):
        return (u.double() * self.curvature * x[..., -1:].double().square()).to(self._stored(x))

    def geodesic(self, t, x, y):
        return self._up(self.ball.geodesic(t, *self._down(x, y)), x)
