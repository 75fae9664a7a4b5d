"""sRGB and CIE 1976 L*a*b*, white point D65 (IEC 61966-2-1; CIE 15), as graph functions."""

from __future__ import annotations

import numpy as np

from tools.lib.tf1 import tf

RGB_TO_XYZ = np.array([[0.412453, 0.212671, 0.019334],  # row: what one unit of R, G, B adds to XYZ
                       [0.357580, 0.715160, 0.119193],
                       [0.180423, 0.072169, 0.950227]], np.float32)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ.astype(np.float64)).astype(np.float32)
WHITE = np.array([0.950456, 1.0, 1.088754], np.float32)  # XYZ of D65 at Y = 1
LAB_EDGE = 6 / 29  # CIE's f is a cube root above this cubed, a line below


def multiply_colours(pixels, matrix):
    """[..., 3] x [3, 3] -> [..., 3]."""
    return tf.tensordot(pixels, tf.constant(matrix), 1)


def rgb_to_lab(rgb):
    """sRGB 0..1 [..., 3] -> L 0..100, a and b about -110..110 [..., 3]."""
    linear = tf.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = multiply_colours(linear, RGB_TO_XYZ) / WHITE
    # the cube root's gradient and value stay finite at 0: that branch is not taken there
    root = tf.where(xyz <= LAB_EDGE**3, xyz / (3 * LAB_EDGE**2) + 4 / 29,
                    tf.maximum(xyz, LAB_EDGE**3) ** (1 / 3))
    x, y, z = tf.unstack(root, axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """L 0..100, a, b [..., 3] -> sRGB [..., 3], clipped to 0..1."""
    lightness, a, b = tf.unstack(lab, axis=-1)
    y = (lightness + 16) / 116
    root = tf.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = tf.where(root <= LAB_EDGE, 3 * LAB_EDGE**2 * (root - 4 / 29), root**3) * WHITE
    linear = tf.clip_by_value(multiply_colours(xyz, XYZ_TO_RGB), 0, 1)
    return tf.where(linear <= 0.0031308, linear * 12.92,
                    1.055 * tf.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def split_lab(rgb):
    """sRGB 0..1 [..., 3] -> lightness [..., 1] and colour [..., 2], both -1..1."""
    lab = rgb_to_lab(rgb)
    return lab[..., :1] / 50 - 1, lab[..., 1:] / 110


def join_lab(lightness, colour):
    """Lightness [..., 1] and colour [..., 2], both -1..1 -> sRGB 0..1 [..., 3]."""
    return lab_to_rgb(tf.concat([(lightness + 1) * 50, colour * 110], axis=-1))
