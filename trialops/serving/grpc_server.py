"""The protocol's gRPC form, in the same process and over the same predictor as REST."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.errors import TrialOpsError
from trialops.serving import protocol, rest
from trialops.serving.application import ARM_HEADER, FAILED, arm_of, logged_id
from trialops.serving.grpc_messages import METHODS, SERVICE, messages
from trialops.serving.protocol import BYTES, CONTRIBUTIONS, DATATYPE, INT64
from trialops.serving.refusals import BadRequest, Refusal

if TYPE_CHECKING:
    import grpc

    from trialops.serving.application import Application
    from trialops.serving.predictor import Prediction

_CONTENTS = {DATATYPE: "fp64_contents", INT64: "int64_contents", BYTES: "bytes_contents"}


class NotFound(Refusal):
    """Another model or version than the one served."""

    status, code, kind = 404, "NOT_FOUND", "unknown model"


class InferenceService:
    """Answers the six calls for one application.

    Args:
        app: The application; it answers REST too.
    """

    def __init__(self, app: Application) -> None:
        self._app, self._messages = app, messages()

    def handler(self) -> grpc.GenericRpcHandler:
        """The calls, for a grpc.aio server."""
        import grpc

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    getattr(self, name),
                    request_deserializer=self._messages[f"{name}Request"].FromString,
                    response_serializer=self._messages[f"{name}Response"].SerializeToString,
                )
                for name in METHODS
            },
        )

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802  the protocol's names
        """Whether the server answers."""
        return self._messages["ServerLiveResponse"](live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether every model is ready."""
        return self._messages["ServerReadyResponse"](ready=self._app.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the model is ready."""
        await self._must_be_served(request.name, request.version, context)
        return self._messages["ModelReadyResponse"](ready=self._app.ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Name, version and extensions of the server."""
        made = self._messages["ServerMetadataResponse"]
        return made(name="trialops", version=self._app.code_version, extensions=rest.EXTENSIONS)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tensors of the model."""
        await self._must_be_served(request.name, request.version, context)
        about = {key: value for key, value in self._app.metadata.items() if key != "parameters"}
        return self._messages["ModelMetadataResponse"](**about)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Predict."""
        app, started, request_id = self._app, time.perf_counter(), ""
        app.metrics.in_flight += 1
        prediction, refused = None, None
        try:
            try:
                self._check(request.model_name, request.model_version)
                if request.ByteSize() > app.limits.body:
                    raise BadRequest(f"the request has more than {app.limits.body} bytes")
                document, raw = _document(request)
                asked = protocol.interpret(document, app.features, app.limits, **app.model)
                request_id = logged_id(asked)
                arm = dict(context.invocation_metadata() or ()).get(ARM_HEADER.decode(), "")
                prediction = await app.predictor.answer(asked, request_id, arm_of(arm))
                answer, status = self._response(asked.id, prediction, raw), 200
            except Refusal as error:
                refused, status = (error.code, str(error)), error.status
                app.metrics.refused(error.kind)
            except Exception as error:
                request_id, refused, status = request_id or protocol.fresh_id(), ("INTERNAL", FAILED), 500
                prediction = None
                app.failed(request_id, error)
            app.done(request_id or protocol.fresh_id(), status, started, prediction)
            if refused is not None:
                await _abort(context, *refused)
            return answer
        finally:
            app.metrics.in_flight -= 1

    def _check(self, name: str, version: str) -> None:
        app = self._app
        if name != app.name or version not in ("", app.version):
            raise NotFound(f'this server has only model "{app.name}" version "{app.version}"')

    async def _must_be_served(self, name: str, version: str, context: Any) -> None:
        try:
            self._check(name, version)
        except NotFound as error:
            await _abort(context, error.code, str(error))

    def _response(self, request_id: str, prediction: Prediction, raw: bool) -> Any:
        app = self._app
        answer = self._messages["ModelInferResponse"](model_name=app.name, model_version=app.version, id=request_id)
        answer.parameters["bundle_digest"].string_param = app.bundle.digest
        if prediction.warnings:
            answer.parameters["warnings"].string_param = rest.warnings(prediction.warnings)
        for name, values in prediction.outputs.items():
            floats = values.dtype.kind == "f"
            tensor = answer.outputs.add(name=name, datatype=DATATYPE if floats else INT64, shape=values.shape)
            if name == CONTRIBUTIONS:
                tensor.parameters["columns"].string_param = ",".join((*app.features, "base"))
            if raw:
                answer.raw_output_contents.append(values.astype("<f8" if floats else "<i8").tobytes())
            elif floats:
                tensor.contents.fp64_contents.extend(values.ravel().tolist())
            else:
                tensor.contents.int64_contents.extend(values.tolist())
        return answer


async def _abort(context: Any, code: str, text: str) -> None:
    import grpc

    await context.abort(getattr(grpc.StatusCode, code), text)


def _document(request: Any) -> tuple[dict[str, Any], bool]:
    """The request as REST has it, and whether its tensors came raw: the answer's then do too.

    Raises:
        BadRequest: Contents are in the wrong field, or in two.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise BadRequest(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    inputs = []
    for number, tensor in enumerate(request.inputs):
        contents: dict[str, Any] = {field.name: values for field, values in tensor.contents.ListFields()}
        field = _CONTENTS.get(tensor.datatype)
        if field is None:
            raise BadRequest(f'"datatype" must be one of {", ".join(_CONTENTS)}')
        if set(contents) - {field} or (raw and contents):
            raise BadRequest(f"the contents of input {number} must be in {'raw_input_contents' if raw else field}")
        data: Any
        if raw:
            data = rest.unpack(raw[number], tensor.datatype)
        elif tensor.datatype == BYTES:
            data = [rest.text(value) for value in contents.get(field, ())]
        else:
            data = np.array(contents.get(field, ()), np.float64 if tensor.datatype == DATATYPE else np.int64)
        shape = list(tensor.shape)
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "data": data})
    outputs = [{"name": output.name} for output in request.outputs]
    document: dict[str, Any] = {"inputs": inputs, "outputs": outputs or None}
    if request.id:
        document["id"] = request.id
    return document, bool(raw)


async def start(app: Application, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Listen for gRPC calls.

    Args:
        app: The application.
        host: Address.
        port: Port; 0 for a free one.

    Returns:
        The server, and its port.

    Raises:
        TrialOpsError: The port is taken.
    """
    import grpc

    most = app.limits.body + 1024
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers((InferenceService(app).handler(),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise TrialOpsError(
            "cannot listen for gRPC", where=address, fix="choose another --grpc-port, or 0 for a free one"
        )
    await server.start()
    return server, bound
