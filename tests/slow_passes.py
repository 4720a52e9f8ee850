"""Both towers the plain way, one text or image at a time and block by block: what the fast passes are held to."""

import torch
from torch import nn
from torch.nn.functional import normalize


def slow_texts(model, contexts, ids, marks=1, deeper=None, factors=None):
    """The plain way: every prompt of every text alone, at full length, through open_clip's own blocks.

    `factors` multiply the embeddings of each text's tokens.
    """
    tower = getattr(model, "text", model)
    last = tower.__dict__.get("pool_type", getattr(model, "text_pool_type", None)) == "last"
    m, rows = contexts.shape[2], []
    for p, prompt in enumerate(contexts):
        for k, row in enumerate(ids):
            own, words = prompt[min(k, len(prompt) - 1)], tower.token_embedding(row)
            if factors is not None:
                words = words * factors[k][:, None]
            embedded = torch.cat([words[:marks], own, words[marks : len(tower.positional_embedding) - m]])
            x = (embedded + tower.positional_embedding)[None]
            for index, block in enumerate(tower.transformer.resblocks):
                if index in (deeper or {}):
                    fresh = deeper[index][p]
                    x = torch.cat([x[:, :marks], fresh[None, min(k, len(fresh) - 1)], x[:, marks + m :]], dim=1)
                x = block(x, attn_mask=tower.attn_mask)
            pooled, projection = tower.ln_final(x)[0, -1 if last else int(row.argmax()) + m], tower.text_projection
            rows.append(projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection)
    return normalize(torch.stack(rows), dim=-1).unflatten(0, (len(contexts), len(ids)))


def slow_images(visual, pixels, prompts):
    """The plain way: every image alone, token by token, block by block."""
    rows = []
    for image in pixels:
        patches = visual.conv1(image[None]).flatten(2)[0].T
        tokens = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
        count = len(tokens)
        x = visual.ln_pre(torch.cat([tokens, prompts[0]]))[None]
        for index, block in enumerate(visual.transformer.resblocks):
            if 0 < index < len(prompts):
                x = torch.cat([x[:, :count], prompts[index][None]], dim=1)
            x = block(x)
        x = x[:, :count]
        if visual.attn_pool is not None:
            pooled = visual.ln_post(visual.attn_pool(x))[:, 0]
        elif visual.final_ln_after_pool:
            pooled = visual.ln_post(x[:, 1:].mean(dim=1))
        else:
            x = visual.ln_post(x)
            pooled = x[:, 0] if visual.pool_type == "tok" else x[:, 1:].mean(dim=1)
        rows.append(pooled[0] @ visual.proj)
    return normalize(torch.stack(rows), dim=-1)
