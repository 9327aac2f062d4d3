"""Probes: simple classifiers that read features as they are."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mfm.numerics.draws import Floats, Ints

# Of a neighbour's vote, exp(cosine / temperature), as in Wu et al. 2018 (arXiv 1805.01978).
TEMPERATURE = 0.07
ITERATIONS = 1000


def logistic(features: Floats, labels: Ints, evaluated: Floats) -> Ints:
    """Labels of `evaluated` by logistic regression on standardised features, L2 with C = 1."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    found: Ints = model.fit(features, labels).predict(evaluated)
    return found


def nearest(features: Floats, labels: Ints, evaluated: Floats, *, neighbours: int) -> Ints:
    """Labels of `evaluated` by the nearest features, by cosine; nearer ones count more."""
    model = KNeighborsClassifier(
        n_neighbors=min(neighbours, len(labels)),
        metric="cosine",
        algorithm="brute",
        weights=lambda distances: np.exp(-distances / TEMPERATURE),
    )
    found: Ints = model.fit(features, labels).predict(evaluated)
    return found
