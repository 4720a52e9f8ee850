"""A computation of tensors recorded once as a list of operations, and repeated without what led to them.

A step of training is a few hundred tensor operations reached through modules, autograd and `torch.func`, all of which
costs more than the operations themselves where tensors are small. What they come to is the same at every step.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode

DEPENDS_ON_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Marks of operations whose result is a number that the code may branch on, or has a shape of its own each time."""

MOVES_STATISTICS = tuple(getattr(torch.ops.aten, f"{of}_batch_norm").default for of in ("native", "cudnn", "miopen"))
"""Operations that change their running statistics in place and do not declare it."""


class RecordError(RuntimeError):
    """A computation cannot be repeated from a record of it."""


def recorded(
    function: Callable[..., list[Tensor]], *inputs: Tensor, changing: Sequence[Tensor] | None = None
) -> tuple[Callable[..., list[Tensor]], list[Tensor]]:
    """Call a function once and return its operations as a function of equal shapes, and its results.

    Gradients that the function takes are part of the record; the record itself has none. Tensors that are neither
    inputs nor computed are held by reference, so that weights changed in place are read as they are. Branches are those
    of the recorded call; a function whose course depends on values of tensors is refused.

    Args:
        function: of tensors, to a list of tensors.
        *inputs: what it is called with; in the record they are arguments, everything else is as it was.
        changing: of what the function reads beside its inputs, all that others change between calls; what follows from
            the rest alone is computed once. Where left out, anything may change.

    Raises:
        RecordError: when the course depends on values, or a tensor was made by no operation of torch.

    Example:
        >>> weight = torch.tensor(2.0)
        >>> twice, first = recorded(lambda x: [weight * x], torch.tensor(1.0))
        >>> weight += 1.0
        >>> first, twice(torch.tensor(5.0))
        ([tensor(2.)], [tensor(15.)])
    """
    recorder = _Recorder(inputs)
    with recorder:
        results = function(*inputs)
    return recorder.finished(results, changing), results


def _depends_on_values(func: Any, args: tuple[Any, ...]) -> bool:
    if func is torch.ops.aten.index.Tensor:  # marked, though only masks give shapes of their own
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return any(tag in func.tags for tag in DEPENDS_ON_VALUES)


class _Recorder(TorchDispatchMode):
    """Writes every operation on tensors into a graph, below autograd and `vmap`."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph, self.constants = Graph(), nn.Module()
        self.nodes: dict[int, Node] = {}
        self.held: list[Tensor] = []  # a tensor that is let go could leave its identity to another
        self.computed: set[int] = set()
        self.values: dict[Node, Tensor] = {}
        self.written: set[int] = set()  # storages that an operation changes in place
        for i, tensor in enumerate(inputs):
            self._know(tensor, self.graph.placeholder(f"input_{i}"))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _depends_on_values(func, args):
            raise RecordError(f"a course that depends on values of tensors cannot be recorded, got a call of {func}")
        kwargs = kwargs or {}
        places = self._placed(args), {key: self._placed(value) for key, value in kwargs.items()}
        for place, declared in enumerate(func._schema.arguments):
            if declared.is_write or (func in MOVES_STATISTICS and declared.name.startswith("running_")):
                self.written.update(_storages(args[place] if place < len(args) else kwargs.get(declared.name)))
        result = func(*args, **kwargs)
        node = self.graph.call_function(func, *places)
        if isinstance(result, Tensor):
            self._know(result, node)
        elif isinstance(result, tuple | list):
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._know(part, self.graph.call_function(operator.getitem, (node, i)))
        return result

    def _know(self, tensor: Tensor, node: Node) -> None:
        self.nodes[id(tensor)], self.values[node] = node, tensor
        self.held.append(tensor)
        if tensor.untyped_storage().nbytes():
            self.computed.add(tensor.untyped_storage().data_ptr())

    def _placed(self, value: Any) -> Any:
        """An argument with nodes in place of tensors."""
        if isinstance(value, Tensor):
            return self._place(value)
        return type(value)(map(self._placed, value)) if type(value) in (list, tuple) else value

    def _place(self, tensor: Tensor) -> Node:
        """Where the record finds a tensor."""
        if id(tensor) not in self.nodes:
            if tensor.untyped_storage().data_ptr() in self.computed:
                raise RecordError(
                    "a computed tensor came back as one that no operation made; keep to operations of torch"
                )
            name = f"constant_{len(self.held)}"
            self.constants.register_buffer(name, tensor)
            node = self.graph.get_attr(name)
            self.nodes[id(tensor)], self.values[node] = node, tensor
            self.held.append(tensor)
        return self.nodes[id(tensor)]

    def finished(self, results: Sequence[Tensor], changing: Sequence[Tensor] | None) -> Callable[..., list[Tensor]]:
        """The operations that lead to the results, less those whose outcome stays what it was."""
        self.graph.output([self._place(result) for result in results])
        if changing is not None:
            self._keep_what_stays({*_storages(changing), *_storages(results), *self.written})
        self.graph.eliminate_dead_code()
        return torch.no_grad()(GraphModule(self.constants, self.graph))

    def _keep_what_stays(self, moving: set[int]) -> None:
        """Put values in the place of nodes that follow from constants alone.

        Args:
            moving: storages that differ from call to call, or are handed out to those who may change them.
        """
        staying: set[Node] = set()
        for node in self.graph.nodes:
            random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
            moves = random or not moving.isdisjoint(_storages(self.values.get(node)))
            if node.op not in ("placeholder", "output") and not moves and staying.issuperset(node.all_input_nodes):
                staying.add(node)
        for node in staying:
            needed = [user for user in node.users if user not in staying]
            if needed and node.op != "get_attr":
                name = f"kept_{node.name}"
                self.constants.register_buffer(name, self.values[node])
                with self.graph.inserting_before(node):
                    kept = self.graph.get_attr(name)
                for user in needed:
                    user.replace_input_with(node, kept)


def _storages(value: Any) -> Iterator[int]:
    """Addresses of the memory of all tensors in an argument; tensors without values have none."""
    if isinstance(value, Tensor):
        if value.untyped_storage().nbytes():
            yield value.untyped_storage().data_ptr()
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _storages(each)
