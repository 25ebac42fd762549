"""Every public name of gradtx and what it means, which imports all of its modules."""

import gradtx

PUBLIC = {name: getattr(gradtx, name) for name in gradtx.__all__}
