"""A case of every layer."""

from cconv import nn

# id: (layer, shape of one sample, the same in PyTorch or None where it has no such layer)
LAYERS = {
    "conv1d": (nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9), "Conv1d(3, 4, 3, stride=2, padding=1)"),
    "conv2d": (
        nn.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2, groups=2),
        (4, 9, 8),
        "Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2, groups=2)",
    ),
    "conv2d same": (
        nn.Conv2d(2, 3, 4, padding="same", bias=False),
        (2, 7, 6),
        "Conv2d(2, 3, 4, padding='same', bias=False)",
    ),
    "conv3d": (nn.Conv3d(2, 3, 2), (2, 3, 4, 5), "Conv3d(2, 3, 2)"),
    "transpose1d": (nn.ConvTranspose1d(3, 2, 3, stride=2), (3, 5), "ConvTranspose1d(3, 2, 3, stride=2)"),
    "transpose2d": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (4, 5, 4),
        "ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)",
    ),
    "transpose3d": (nn.ConvTranspose3d(2, 3, 2), (2, 3, 2, 4), "ConvTranspose3d(2, 3, 2)"),
    "batchnorm1d": (nn.BatchNorm1d(5), (5,), "BatchNorm1d(5)"),
    "batchnorm2d": (nn.BatchNorm2d(3, eps=1e-3), (3, 4, 5), "BatchNorm2d(3, eps=1e-3)"),
    "batchnorm3d": (nn.BatchNorm3d(3), (3, 2, 4, 5), "BatchNorm3d(3)"),
    "relu": (nn.ReLU(), (3, 4), "ReLU()"),
    "leakyrelu": (nn.LeakyReLU(0.2), (3, 4), "LeakyReLU(0.2)"),
    "relu6": (nn.Sequential(nn.Conv1d(1, 3, 1), nn.ReLU6()), (1, 9), "Sequential(Conv1d(1, 3, 1), ReLU6())"),
    "sigmoid": (nn.Sigmoid(), (3, 4), "Sigmoid()"),
    "tanh": (nn.Tanh(), (3, 4), "Tanh()"),
    "softmax": (nn.Softmax(dim=1), (3, 4), "Softmax(dim=1)"),
    "logsoftmax": (nn.LogSoftmax(dim=-1), (3, 4), "LogSoftmax(dim=-1)"),
    "maxpool1d": (nn.MaxPool1d(3), (2, 10), "MaxPool1d(3)"),
    "maxpool2d": (
        nn.MaxPool2d((3, 2), stride=2, padding=(1, 0), ceil_mode=True),
        (2, 7, 9),
        "MaxPool2d((3, 2), stride=2, padding=(1, 0), ceil_mode=True)",
    ),
    "maxpool3d": (nn.MaxPool3d(2, dilation=2), (2, 5, 6, 5), "MaxPool3d(2, dilation=2)"),
    "avgpool1d": (nn.AvgPool1d(2, padding=1), (2, 6), "AvgPool1d(2, padding=1)"),
    "avgpool2d": (
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        (2, 7, 8),
        "AvgPool2d(3, stride=2, padding=1, count_include_pad=False)",
    ),
    "avgpool3d": (nn.AvgPool3d(2), (2, 4, 4, 6), "AvgPool3d(2)"),
    "globalavg": (nn.GlobalAvgPool(), (3, 4, 5), "AdaptiveAvgPool2d(1)"),
    "globalmax": (nn.GlobalMaxPool(), (3, 4, 5), "AdaptiveMaxPool2d(1)"),
    "flatten": (nn.Flatten(), (3, 4, 5), "Flatten()"),
    "flatten middle": (nn.Flatten(1, 2), (3, 4, 5), "Flatten(1, 2)"),
    "linear": (nn.Linear(5, 3), (5,), "Linear(5, 3)"),
    "linear without bias": (nn.Linear(5, 3, bias=False), (5,), "Linear(5, 3, bias=False)"),
    "linear on the last axis": (nn.Linear(5, 3), (2, 5), "Linear(5, 3)"),
    "dropout": (nn.Dropout(0.3), (3, 4), "Dropout(0.3)"),
    "identity": (nn.Identity(), (3, 4), "Identity()"),
    "empty": (nn.Sequential(), (3, 4), "Sequential()"),
    "network": (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh()),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(64, 10),
        ),
        (1, 8, 8),
        "Sequential(Conv2d(1, 4, 3, padding=1, bias=False), BatchNorm2d(4), ReLU(), MaxPool2d(2), "
        "Sequential(Conv2d(4, 4, 1), Tanh()), Flatten(), Dropout(), Linear(64, 10))",
    ),
    "residual": (
        nn.Residual(nn.Conv2d(2, 4, 3, padding=1), shortcut=nn.Conv2d(2, 4, 1)),
        (2, 5, 5),
        None,
    ),
    "residual identity": (nn.Residual(nn.ReLU()), (2, 5), None),
    "concat": (nn.Concat(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)), (2, 5, 5), None),
}
