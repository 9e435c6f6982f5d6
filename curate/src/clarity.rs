//! Clarity: the clearest picture near a clip's head, and blur, noise, blockiness, exposure.
