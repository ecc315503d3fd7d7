"""What a LiteLLM release knows, read out of the installed package: names of keys, providers, priced models.

Run by the interpreter of each version set; writes one JSON object to standard output. `tools/join.py`
joins those of all sets into the files of `data/known/`.
"""

import ast
import inspect
import json
import os
import pathlib
import re
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from litellm import Router  # noqa: E402
from litellm.types.router import LiteLLM_Params, RetryPolicy, RoutingStrategy  # noqa: E402
from litellm.proxy import _types as proxy_types  # noqa: E402

ROOT = pathlib.Path(litellm.__file__).parent
NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")

# Which variables of LiteLLM's source hold a block of the configuration: what is looked up in them is a key of it.
HOLDERS = {
    "general_settings": {"general_settings", "_general_settings"},
    "litellm_settings": {"litellm_settings", "_litellm_settings"},
    "router_settings": {"router_settings", "_router_settings"},
    "top": {"config", "config_data", "proxy_config", "parsed_config", "new_config", "_config"},
    "litellm_params": {
        "litellm_params", "_litellm_params", "litellm_params_dict", "optional_params", "kwargs", "model_params",
        "non_default_params", "completion_kwargs", "litellm_model_params", "extra_kwargs", "data",
        "credential_params", "optional_request_params", "passed_params", "request_kwargs", "inference_params",
    },
    "model_info": {"model_info", "_model_info", "model_info_dict", "_model_info_dict", "deployment_model_info"},
    "cache_params": {"cache_params"},
}


def holder(node):
    """The block that an expression stands for, if its last name says so."""
    if isinstance(node, ast.BoolOp):
        return next((h for h in map(holder, node.values) if h), None)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        first = node.args[0]
        name = first.value if isinstance(first, ast.Constant) else None
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        name = node.slice.value
    else:
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
    return next((block for block, names in HOLDERS.items() if name in names), None)


def text(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.match(node.value):
        return node.value
    return None


def is_setting(name):
    """Whether the module's attribute is no function, class or module."""
    value = getattr(litellm, name, None)
    return name[0].islower() and not (inspect.ismodule(value) or inspect.isclass(value) or callable(value))


class Lookups(ast.NodeVisitor):
    """Collects the strings that are looked up in variables that hold a block."""

    def __init__(self, found):
        self.found = found

    def add(self, block, key):
        # Elsewhere a variable called `config` is something else.
        if block and key and (block != "top" or self.is_proxy):
            self.found[block].add(key)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"get", "pop", "setdefault"} and node.args:
            self.add(holder(node.func.value), text(node.args[0]))
        if isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr", "setattr"} and len(node.args) > 1:
            is_module = isinstance(node.args[0], ast.Name) and node.args[0].id == "litellm"
            name = text(node.args[1])
            if is_module and name and is_setting(name):
                self.found["litellm_settings"].add(name)
        self.generic_visit(node)

    def visit_Attribute(self, node):
        """`litellm.drop_params`: settings are attributes of the module."""
        if isinstance(node.value, ast.Name) and node.value.id == "litellm" and is_setting(node.attr):
            self.found["litellm_settings"].add(node.attr)
        self.generic_visit(node)

    def visit_Subscript(self, node):
        self.add(holder(node.value), text(node.slice))
        self.generic_visit(node)

    def visit_Compare(self, node):
        if len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            self.add(holder(node.comparators[0]), text(node.left))
        # `if key == "callbacks"` of the loop over litellm_settings.
        if isinstance(node.left, ast.Name) and node.left.id == "key" and len(node.comparators) == 1:
            self.key_loop(text(node.comparators[0]))
        self.generic_visit(node)

    def key_loop(self, key):
        if self.in_load_config:
            self.add("litellm_settings", key)

    in_load_config = False
    is_proxy = False


def harvest_source(found):
    for path in sorted(ROOT.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        visitor = Lookups(found)
        visitor.in_load_config = path.name == "proxy_server.py"
        visitor.is_proxy = path.name in {"proxy_server.py", "proxy_cli.py"}
        visitor.visit(tree)
        if "llms" in path.parts:
            provider_attributes(tree, found)


def provider_attributes(tree, found):
    """Annotated attributes of `…Config` classes are parameters that this provider takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and "Config" in node.name:
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    found["litellm_params"].add(part.target.id)
                if isinstance(part, ast.FunctionDef) and part.name in {"__init__", "get_supported_openai_params"}:
                    found["litellm_params"].update(a.arg for a in part.args.args)
                    if part.name != "__init__":
                        found["litellm_params"].update(filter(None, map(text, ast.walk(part))))


def fields(model):
    return set(getattr(model, "model_fields", {})) | {
        field.alias for field in getattr(model, "model_fields", {}).values() if field.alias
    }


def callables(found):
    for function in (litellm.completion, litellm.embedding, litellm.image_generation, litellm.transcription,
                     litellm.speech, litellm.rerank, litellm.responses, litellm.text_completion):
        found["litellm_params"].update(inspect.signature(function).parameters)
    found["litellm_params"] |= fields(LiteLLM_Params)
    from litellm.types.utils import all_litellm_params

    found["litellm_params"].update(all_litellm_params)
    found["litellm_params"].update(getattr(litellm, "OPENAI_CHAT_COMPLETION_PARAMS", []))
    found["litellm_params"].update(getattr(litellm.constants, "OPENAI_CHAT_COMPLETION_PARAMS", []))
    found["router_settings"].update(inspect.signature(Router.__init__).parameters)
    found["general_settings"] |= fields(proxy_types.ConfigGeneralSettings)
    found["top"] |= fields(proxy_types.ConfigYAML) | {"include"}
    # Each key of litellm_settings that has no branch of its own becomes an attribute of the module.
    found["litellm_settings"].update(
        name for name in vars(litellm)
        if not name.startswith("_") and not inspect.ismodule(getattr(litellm, name))
        and not inspect.isclass(getattr(litellm, name)) and not inspect.isfunction(getattr(litellm, name))
    )


def price_names():
    return sorted(
        name for name, value in litellm.model_cost.items()
        if any(key.endswith(("_cost_per_token", "_cost_per_second", "_cost_per_image", "_cost_per_pixel",
                             "_cost_per_character", "_cost_per_query", "_cost_per_session", "_cost_per_page",
                             "_cost_per_video_per_second")) for key in value) or "tiered_pricing" in value
    )


def model_info(found):
    from litellm.types.router import ModelInfo

    found["model_info"] |= fields(ModelInfo)
    for value in litellm.model_cost.values():
        found["model_info"].update(value)


def callbacks():
    import typing

    names = set(typing.get_args(getattr(litellm, "_custom_logger_compatible_callbacks_literal", ())))
    source = ROOT.joinpath("litellm_core_utils", "litellm_logging.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name):
            if "callback" in node.left.id or node.left.id in {"logging_integration", "_internal_logger"}:
                for comparator in node.comparators:
                    for part in ast.walk(comparator):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            names.add(part.value)
    source = ROOT.joinpath("proxy", "common_utils", "callback_utils.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "callback":
            names.update(c.value for c in node.comparators if isinstance(c, ast.Constant) and isinstance(c.value, str))
    return sorted(names)


def main():
    found = {block: set() for block in HOLDERS}
    harvest_source(found)
    callables(found)
    model_info(found)
    found["retry_policy"] = fields(RetryPolicy)
    found["routing_strategies"] = {strategy.value for strategy in RoutingStrategy} | {"simple-shuffle"}
    found["providers"] = {getattr(p, "value", p) for p in litellm.provider_list}
    found["openai_models"] = set(litellm.open_ai_chat_completion_models) | set(
        litellm.open_ai_text_completion_models
    ) | set(getattr(litellm, "open_ai_embedding_models", ()))
    found["known_models"] = set(litellm.model_list_set) if hasattr(litellm, "model_list_set") else set(litellm.model_list)
    found["callbacks"] = set(callbacks())
    found["priced"] = set(price_names())
    found["modes"] = {value["mode"] for value in litellm.model_cost.values() if "mode" in value}
    found["modes"] = {mode for mode in found["modes"] if NAME.match(mode)}
    json.dump({name: sorted(map(str, values)) for name, values in found.items()}, sys.stdout)


main()
