"""A small network in the manner of VGG-19 (https://arxiv.org/abs/1409.1556): pairs of 3 by 3 convolutions between poolings, then dense layers."""

from tensorflow import keras


def make_model(widths):
    """Return the network, compiled. ``widths`` are the filters of each block."""
    model = keras.Sequential([keras.Input((32, 32, 1))])
    for width in widths:
        for _ in range(2):
            model.add(keras.layers.Conv2D(width, 3, padding="same", activation="relu"))
        model.add(keras.layers.MaxPooling2D())
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(64, activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
