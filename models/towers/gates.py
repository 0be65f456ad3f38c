"""SENet gates: each feature of a tower is weighted by what all of them are, before they meet.

Squeeze-and-excitation: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018; on fields of features: Huang, Zhang
and Zhang, "FiBiNET: Combining Feature Importance and Bilinear feature Interaction for Click-Through Rate Prediction",
RecSys 2019, arXiv:1905.09433.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from models.config import Gates


class FieldGates(tf.keras.layers.Layer):
    """Multiplies every field by a gate of its own.

    Squeeze: z, the mean of each field's numbers. Excite: gates = f(relu(z W_1) W_2), where W_1 is `[fields,
    fields // reduction]`. Reweight: each field times its gate. Neither layer has a bias.
    """

    def __init__(self, config: Gates, fields: int) -> None:
        super().__init__()
        self.squeezed = tf.keras.layers.Dense(max(1, fields // config.reduction), activation="relu", use_bias=False)
        self.excited = tf.keras.layers.Dense(fields, activation=config.activation, use_bias=False)

    def call(self, fields: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the fields, float32 `[n, width]` each of a width of its own, weighted."""
        means = tf.stack([tf.reduce_mean(field, axis=1) for field in fields], axis=1)
        gates = self.excited(self.squeezed(means))
        return [field * gates[:, number : number + 1] for number, field in enumerate(fields)]
