"""Modal's API, served by the stubs that the official package generated and by grpclib: no line of the wire code is ours.

Only what `independent.rs` drives is served. Commands run for real, as processes of this machine in a directory of
their own; images and sandboxes are names. Prints one JSON object with its ports, reads one with the address under
which the router is to be reached, and serves until its standard input ends.

    server.py DIRECTORY CERTIFICATE KEY
"""

import asyncio
import base64
import hashlib
import json
import os
import ssl
import sys
import time
import uuid

import grpclib.events
import grpclib.server
from aiohttp import web
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api
from modal_proto import task_command_router_pb2 as router
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

BLOCK = 8 * 1024 * 1024


def jwt(seconds):
    """A JWT without a signature that ends in so many seconds."""
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    return f"{part({'alg': 'none'})}.{part({'exp': time.time() + seconds, 'id': uuid.uuid4().hex})}.none"


def complete(base, served):
    """`served` with every other call of the service answered UNIMPLEMENTED, as servers of Modal's API do."""

    def unimplemented(name):
        async def call(self, stream):
            raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not served")

        return call

    missing = {name for name in base.__abstractmethods__ if name not in vars(served)}
    return type(served.__name__, (served, base), {name: unimplemented(name) for name in missing})


def require(condition, message, status=Status.INVALID_ARGUMENT):
    if not condition:
        raise GRPCError(status, message)


class Process:
    """A command that runs or ran, and all it has printed."""

    def __init__(self):
        self.output = {1: bytearray(), 2: bytearray()}
        self.open = {1, 2}
        self.taken = 0
        self.closed = False
        self.code = None
        self.timed_out = False
        self.terminated = False
        self.changed = asyncio.Condition()

    async def start(self, arguments, directory, env):
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *arguments, stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory, env={**os.environ, **env}
        )
        reads = [self.read(1, self.process.stdout), self.read(2, self.process.stderr)]
        self.tasks = [asyncio.create_task(read) for read in [*reads, self.reap()]]

    async def read(self, descriptor, pipe):
        while data := await pipe.read(65536):
            async with self.changed:
                self.output[descriptor] += data
                self.changed.notify_all()
        async with self.changed:
            self.open.discard(descriptor)
            self.changed.notify_all()

    async def reap(self):
        code = await self.process.wait()
        async with self.changed:
            self.code = code
            self.changed.notify_all()

    async def chunks(self, descriptor, offset):
        """What was printed from `offset` on, until the output is closed and drained."""
        require(offset <= len(self.output[descriptor]), "the offset is beyond the output")
        while True:
            async with self.changed:
                has_more = lambda: len(self.output[descriptor]) > offset or descriptor not in self.open
                await self.changed.wait_for(has_more)
                data = bytes(self.output[descriptor][offset : offset + 60_000])
            if not data:
                return
            yield offset, data
            offset += len(data)

    async def write(self, offset, data, eof):
        require(self.code is None, "the command has ended", Status.FAILED_PRECONDITION)
        require(offset <= self.taken, f"a gap: {self.taken} bytes came, these start at {offset}")
        fresh = data[self.taken - offset :]
        self.taken += len(fresh)
        if fresh:
            self.process.stdin.write(fresh)
            await self.process.stdin.drain()
        if eof and not self.closed:
            self.closed = True
            self.process.stdin.close()

    async def ended(self, timeout=None):
        """Its exit code, or None while it still runs after so many seconds."""
        async with self.changed:
            if timeout == 0:
                return self.code
            try:
                await asyncio.wait_for(self.changed.wait_for(lambda: self.code is not None), timeout)
            except asyncio.TimeoutError:
                return None
        return self.code


class State:
    def __init__(self, directory):
        self.directory = directory
        self.apps, self.secrets, self.volumes, self.images = {}, {}, {}, {}
        self.blocks = {}
        self.sandboxes, self.execs = {}, {}
        self.access = {}
        self.broken_builds = set()
        self.keys = {}
        self.url = self.router = ""


class Control:
    def __init__(self, state):
        self.state = state

    async def AuthTokenGet(self, stream):
        await stream.recv_message()
        await stream.send_message(api.AuthTokenGetResponse(token=jwt(1200)))

    async def EnvironmentGetOrCreate(self, stream):
        await stream.recv_message()
        settings = api.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api.EnvironmentMetadata(name="main", settings=settings)
        await stream.send_message(api.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata))

    async def AppGetOrCreate(self, stream):
        query = await stream.recv_message()
        if query.app_name not in self.state.apps:
            creates = query.object_creation_type == api.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
            require(creates, f"App '{query.app_name}' not found", Status.NOT_FOUND)
            self.state.apps[query.app_name] = f"ap-{len(self.state.apps)}"
        await stream.send_message(api.AppGetOrCreateResponse(app_id=self.state.apps[query.app_name]))

    async def AppList(self, stream):
        await stream.recv_message()
        items = [
            api.AppListResponse.AppListItem(app_id=id, name=name, description=name, state=api.APP_STATE_DEPLOYED)
            for name, id in self.state.apps.items()
        ]
        await stream.send_message(api.AppListResponse(apps=items))

    async def SecretGetOrCreate(self, stream):
        query = await stream.recv_message()
        name, secrets = query.deployment_name, self.state.secrets
        if query.object_creation_type == api.OBJECT_CREATION_TYPE_UNSPECIFIED:
            require(name in secrets, f"Secret '{name}' not found", Status.NOT_FOUND)
        elif query.object_creation_type == api.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            require(name not in secrets, f"Secret '{name}' exists", Status.ALREADY_EXISTS)
        missing = set(query.required_keys) - set(secrets.get(name, query.env_dict))
        require(not missing, f"Secret is missing key(s): {missing}", Status.FAILED_PRECONDITION)
        secrets.setdefault(name, dict(query.env_dict))
        metadata = api.SecretMetadata(name=name, keys=list(secrets[name]))
        await stream.send_message(api.SecretGetOrCreateResponse(secret_id=f"st-{name}", metadata=metadata))

    async def SecretList(self, stream):
        query = await stream.recv_message()
        require(0 < query.pagination.max_objects <= 100, "a page has 1 to 100 objects")
        items = [
            api.SecretListItem(label=name, secret_id=f"st-{name}", metadata=api.SecretMetadata(name=name, keys=list(keys)))
            for name, keys in self.state.secrets.items()
        ]
        await stream.send_message(api.SecretListResponse(items=items))

    async def VolumeGetOrCreate(self, stream):
        query = await stream.recv_message()
        name, version = query.deployment_name, api.VOLUME_FS_VERSION_V2
        if query.object_creation_type == api.OBJECT_CREATION_TYPE_UNSPECIFIED:
            require(name in self.state.volumes, f"Volume '{name}' not found", Status.NOT_FOUND)
        elif name not in self.state.volumes:
            require(query.version == version, "a new volume is of version 2")
        self.state.volumes.setdefault(name, {})
        metadata = api.VolumeMetadata(version=version, name=name)
        answer = api.VolumeGetOrCreateResponse(volume_id=f"vo-{name}", version=version, metadata=metadata)
        await stream.send_message(answer)

    def volume(self, id):
        name = id.removeprefix("vo-")
        require(name in self.state.volumes, "no such volume", Status.NOT_FOUND)
        return self.state.volumes[name]

    async def VolumePutFiles2(self, stream):
        query = await stream.recv_message()
        volume, missing = self.volume(query.volume_id), []
        for n, file in enumerate(query.files):
            exists = file.path.lstrip("/") in volume
            require(
                not (exists and query.disallow_overwrite_existing_files), f"{file.path} exists", Status.ALREADY_EXISTS
            )
            require(len(file.blocks) == -(-file.size // BLOCK), f"{file.path} has {len(file.blocks)} blocks")
            for m, block in enumerate(file.blocks):
                require(len(block.contents_sha256) == 32, "a hash has 32 bytes")
                name = block.contents_sha256.hex()
                if block.put_response:
                    require(block.put_response == f"kept {name}".encode(), "another block's response")
                if name not in self.state.blocks:
                    url = f"{self.state.http}/block/{name}?signature=secret"
                    missing.append(
                        api.VolumePutFiles2Response.MissingBlock(file_index=n, block_index=m, put_url=url)
                    )
        if not missing:
            volume.update({file.path.lstrip("/"): file for file in query.files})
        await stream.send_message(api.VolumePutFiles2Response(missing_blocks=missing))

    async def VolumeGetFile2(self, stream):
        query = await stream.recv_message()
        file = self.volume(query.volume_id).get(query.path.lstrip("/"))
        require(file is not None, f"{query.path} not found", Status.NOT_FOUND)
        require(query.client_pads_blocks, "this server pads no blocks")
        length = query.len or file.size - query.start
        blocks = range(query.start // BLOCK, -(-(query.start + length) // BLOCK))
        urls = []
        for n in blocks:
            first, last = max(query.start - n * BLOCK, 0), min(query.start + length - n * BLOCK, BLOCK)
            urls.append(f"{self.state.http}/block/{file.blocks[n].contents_sha256.hex()}?from={first}&to={last}")
        answer = api.VolumeGetFile2Response(get_urls=urls, size=file.size, start=query.start, len=length)
        await stream.send_message(answer)

    async def VolumeListFiles2(self, stream):
        query = await stream.recv_message()
        for path, file in sorted(self.volume(query.volume_id).items()):
            entry = api.FileEntry(path=path, type=api.FileEntry.FILE, size=file.size, mtime=int(time.time()))
            await stream.send_message(api.VolumeListFiles2Response(entries=[entry]))

    async def ImageGetOrCreate(self, stream):
        query = await stream.recv_message()
        require(query.builder_version == "2025.06", f"builder {query.builder_version!r}")
        definition = query.image.SerializeToString(deterministic=True)
        id = "im-" + hashlib.sha256(definition).hexdigest()[:22]
        is_built = id in self.state.images
        self.state.images.setdefault(id, list(query.image.dockerfile_commands))
        answer = api.ImageGetOrCreateResponse(image_id=id)
        if is_built:
            answer.result.status = api.GenericResult.GENERIC_STATUS_SUCCESS
        answer.metadata.image_builder_version = "2025.06"
        await stream.send_message(answer)

    async def ImageJoinStreaming(self, stream):
        query = await stream.recv_message()
        lines = [f"{n}: {line}\n" for n, line in enumerate(self.state.images[query.image_id])]
        start = int(query.last_entry_id) if query.last_entry_id else 0
        for n, line in enumerate(lines[start:], start + 1):
            log = api.TaskLogs(data=line, file_descriptor=api.FILE_DESCRIPTOR_STDOUT)
            await stream.send_message(api.ImageJoinStreamingResponse(task_logs=[log], entry_id=str(n)))
            if query.image_id not in self.state.broken_builds:
                self.state.broken_builds.add(query.image_id)
                raise GRPCError(Status.INTERNAL, "the stream was reset")
        result = api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS)
        await stream.send_message(api.ImageJoinStreamingResponse(result=result))

    async def SandboxCreateV2(self, stream):
        query = await stream.recv_message()
        sent = stream.metadata.get("x-modal-auth-token")
        require(sent is not None, "no auth token", Status.UNAUTHENTICATED)
        key = stream.metadata["x-idempotency-key"]
        if key in self.state.keys:
            # It was made, and then the answer got lost: the same call again makes none.
            await stream.send_message(self.state.keys[key])
            return
        definition = query.definition
        require(definition.image_id in self.state.images, "no such image", Status.NOT_FOUND)
        env = {}
        for source in query.secret_sources:
            if source.WhichOneof("source") == "secret_id":
                env.update(self.state.secrets[source.secret_id.removeprefix("st-")])
            else:
                env.update(source.env.contents)
        process = Process()
        await process.start(list(definition.entrypoint_args), self.state.directory, env)
        n = len(self.state.sandboxes)
        id, task = f"sb-{n}", f"ta-{n}V"
        self.state.sandboxes[id] = {"process": process, "task": task, "query": query, "created_at": time.time(), "env": env}
        access = api.CommandRouterAccess(url=self.state.router, jwt=jwt(1200))
        self.state.access[access.jwt] = task
        answer = api.SandboxCreateV2Response(
            sandbox_id=id,
            task_id=task,
            metadata=api.SandboxHandleMetadata(app_id=query.app_id),
            command_router_access=access,
        )
        self.state.keys[key] = answer
        raise GRPCError(Status.UNAVAILABLE, "the answer got lost")

    def sandbox(self, id):
        require(id in self.state.sandboxes, f"no sandbox {id}", Status.NOT_FOUND)
        return self.state.sandboxes[id]

    async def SandboxWaitV2(self, stream):
        query = await stream.recv_message()
        sandbox = self.sandbox(query.sandbox_id)
        process = sandbox["process"]
        answer = api.SandboxWaitResponse()
        answer.metadata.app_id = sandbox["query"].app_id
        code = await process.ended(query.timeout)
        if code is not None:
            success, failure = api.GenericResult.GENERIC_STATUS_SUCCESS, api.GenericResult.GENERIC_STATUS_FAILURE
            ended = api.GenericResult.GENERIC_STATUS_TERMINATED if process.terminated else (failure if code else success)
            answer.result.status, answer.result.exitcode = ended, code if code >= 0 else 128 - code
        await stream.send_message(answer)

    async def SandboxTerminateV2(self, stream):
        query = await stream.recv_message()
        process = self.sandbox(query.sandbox_id)["process"]
        if process.code is None:
            process.terminated = True
            process.process.kill()
        await stream.send_message(api.SandboxTerminateResponse())

    async def SandboxListV2(self, stream):
        query = await stream.recv_message()
        infos = []
        for id, sandbox in self.state.sandboxes.items():
            is_older = not query.before_timestamp or sandbox["created_at"] < query.before_timestamp
            has_tags = all(tag in sandbox["query"].tags for tag in query.tags)
            if sandbox["process"].code is None and is_older and has_tags:
                info = api.SandboxInfo(id=id, created_at=sandbox["created_at"], app_id=sandbox["query"].app_id)
                info.name = sandbox["query"].definition.name
                infos.append(info)
        infos.sort(key=lambda info: -info.created_at)
        # One a page, so that there are pages.
        await stream.send_message(api.SandboxListResponse(sandboxes=infos[:1]))

    async def SandboxGetFromNameV2(self, stream):
        query = await stream.recv_message()
        for id, sandbox in self.state.sandboxes.items():
            if sandbox["query"].definition.name == query.sandbox_name and sandbox["process"].code is None:
                await stream.send_message(api.SandboxGetFromNameResponse(sandbox_id=id))
                return
        raise GRPCError(Status.NOT_FOUND, f"Sandbox '{query.sandbox_name}' not found")

    async def SandboxGetFromName(self, stream):
        query = await stream.recv_message()
        require(query.sandbox_name == "of-version-1", "not found", Status.NOT_FOUND)
        await stream.send_message(api.SandboxGetFromNameResponse(sandbox_id="sb-0123456789abcdefghijAB"))


class Router:
    def __init__(self, state):
        self.state = state

    def task(self, stream, task):
        bearer = stream.metadata.get("authorization", "").removeprefix("Bearer ")
        require(self.state.access.get(bearer) == task, "no access", Status.UNAUTHENTICATED)
        require("x-idempotency-key" not in stream.metadata, "a header of the control plane")
        for sandbox in self.state.sandboxes.values():
            if sandbox["task"] == task:
                return sandbox
        raise GRPCError(Status.NOT_FOUND, "no such task")

    def exec(self, stream, query):
        self.task(stream, query.task_id)
        require(query.exec_id in self.state.execs, "no such exec", Status.NOT_FOUND)
        return self.state.execs[query.exec_id]

    async def TaskExecStart(self, stream):
        query = await stream.recv_message()
        sandbox = self.task(stream, query.task_id)
        if query.exec_id not in self.state.execs:
            process = self.state.execs[query.exec_id] = Process()
            try:
                await process.start(list(query.command_args), query.workdir or self.state.directory, sandbox["env"])
            except FileNotFoundError:
                raise GRPCError(Status.NOT_FOUND, f"no program {query.command_args[0]}") from None
        await stream.send_message(router.TaskExecStartResponse())

    async def TaskExecStdioRead(self, stream):
        query = await stream.recv_message()
        process = self.exec(stream, query)
        descriptor = 1 if query.file_descriptor == router.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT else 2
        async for _, data in process.chunks(descriptor, query.offset):
            await stream.send_message(router.TaskExecStdioReadResponse(data=data))

    async def TaskExecStdinWrite(self, stream):
        query = await stream.recv_message()
        await self.exec(stream, query).write(query.offset, query.data, query.eof)
        await stream.send_message(router.TaskExecStdinWriteResponse())

    async def TaskExecWait(self, stream):
        query = await stream.recv_message()
        code = await self.exec(stream, query).ended()
        answer = router.TaskExecWaitResponse(code=code) if code >= 0 else router.TaskExecWaitResponse(signal=-code)
        await stream.send_message(answer)

    async def SandboxStdioReadV2(self, stream):
        query = await stream.recv_message()
        process = self.task(stream, query.task_id)["process"]
        descriptor = 1 if query.file_descriptor == router.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT else 2
        async for offset, data in process.chunks(descriptor, query.offset):
            await stream.send_message(router.SandboxStdioReadV2Response(data=data, starting_offset=offset))

    async def SandboxStdinWriteV2(self, stream):
        query = await stream.recv_message()
        await self.task(stream, query.task_id)["process"].write(query.offset, query.data, query.eof)
        await stream.send_message(router.SandboxStdinWriteV2Response())


async def check_headers(event):
    """What Modal's own mock server refuses to do without."""
    for name in ["x-modal-client-version", "x-modal-client-type", "x-modal-python-version", "x-modal-host"]:
        require(name in event.metadata, f"no {name}", Status.FAILED_PRECONDITION)
    sent = event.metadata.get("x-modal-token-id"), event.metadata.get("x-modal-token-secret")
    require(sent == ("ak-independent", "as-independent"), "bad token", Status.UNAUTHENTICATED)


async def put_block(request):
    data = await request.read()
    name = hashlib.sha256(data).hexdigest()
    if name != request.match_info["name"] or data.endswith(b"\0"):
        return web.Response(status=400, text="another block, or one with trailing zeros")
    request.app["state"].blocks[name] = data
    return web.Response(text=f"kept {name}")


async def get_block(request):
    data = request.app["state"].blocks[request.match_info["name"]]
    data = data[int(request.query["from"]) : int(request.query["to"])]
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return web.Response(body=data, headers={"Repr-Digest": f"sha-256=:{digest}:"})


def port(server):
    return server._server.sockets[0].getsockname()[1]


async def main(directory, certificate, key):
    state = State(directory)
    control = grpclib.server.Server([complete(ModalClientBase, Control)(state)])
    grpclib.events.listen(control, grpclib.events.RecvRequest, check_headers)
    await control.start("127.0.0.1", 0)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.set_alpn_protocols(["h2"])
    commands = grpclib.server.Server([complete(TaskCommandRouterBase, Router)(state)])
    await commands.start("127.0.0.1", 0, ssl=tls)
    blocks = web.Application(client_max_size=2 * BLOCK)
    blocks["state"] = state
    blocks.router.add_put("/block/{name}", put_block)
    blocks.router.add_get("/block/{name}", get_block)
    runner = web.AppRunner(blocks)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state.http = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    print(json.dumps({"control": port(control), "router": port(commands)}), flush=True)
    lines = asyncio.get_running_loop()
    state.router = json.loads(await lines.run_in_executor(None, sys.stdin.readline))["router"]
    await lines.run_in_executor(None, sys.stdin.read)
    for sandbox in [*state.sandboxes.values()]:
        if sandbox["process"].code is None:
            sandbox["process"].process.kill()
    os._exit(0)


asyncio.run(main(*sys.argv[1:]))
