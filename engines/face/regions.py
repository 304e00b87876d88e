"""Which of the 478 landmarks belong to which part of the face, for filtering and comparing.

Right and left are the person's own. The numbers are those of MediaPipe's face mesh (Apache-2.0); the rings around eyes
and lips are the mesh's neighbours, and the rigid points are what is left of nose, cheeks and forehead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.types import LANDMARKS

Indices = NDArray[np.intp]


def _points(numbers: str) -> Indices:
    return np.array(numbers.split(), np.intp)


RIGHT_LIDS = _points(
    "7 22 23 24 25 26 27 28 29 30 31 33 56 110 112 113 130 133 144 145 153 154 155 157 158 159 160 161 163 173 189 190 "
    "221 222 223 224 225 226 228 229 230 231 232 233 243 244 246 247"
)
LEFT_LIDS = _points(
    "249 252 253 254 255 256 257 258 259 260 261 263 286 339 341 342 359 362 373 374 380 381 382 384 385 386 387 388 "
    "390 398 413 414 441 442 443 444 445 446 448 449 450 451 452 453 463 464 466 467"
)
RIGHT_BROW = _points("46 52 53 55 63 65 66 70 105 107")
LEFT_BROW = _points("276 282 283 285 293 295 296 300 334 336")
MOUTH = _points(
    "0 11 12 13 14 15 16 17 18 37 38 39 40 41 42 43 57 61 62 72 73 74 76 77 78 80 81 82 83 84 85 86 87 88 89 90 91 92 "
    "95 96 106 146 164 165 167 178 179 180 181 182 183 184 185 186 191 267 268 269 270 271 272 273 287 291 292 302 303 "
    "304 306 307 308 310 311 312 313 314 315 316 317 318 319 320 321 322 324 325 335 375 391 393 402 403 404 405 406 "
    "407 408 409 410 415"
)
RIGHT_IRIS = np.arange(468, 473)
LEFT_IRIS = np.arange(473, 478)
RIGID = _points(
    "1 3 4 5 6 8 9 19 20 34 35 36 44 45 47 48 49 50 51 59 60 64 68 69 71 75 79 94 99 100 101 102 104 108 111 114 115 "
    "116 117 118 119 120 121 122 123 124 125 126 128 129 131 134 137 139 141 142 143 147 151 156 166 168 174 188 193 "
    "195 196 197 198 205 209 217 218 219 220 227 235 236 237 238 239 240 241 242 245 248 250 264 265 266 274 275 277 "
    "278 279 280 281 289 290 294 298 299 301 305 309 328 329 330 331 333 337 340 343 344 345 346 347 348 349 350 351 "
    "352 353 354 355 357 358 360 363 366 368 370 371 372 376 383 392 399 412 417 419 420 425 429 437 438 439 440 447 "
    "455 456 457 458 459 460 461 462 465"
)
SKIN = np.setdiff1d(
    np.arange(LANDMARKS),
    np.concatenate((RIGHT_LIDS, LEFT_LIDS, RIGHT_BROW, LEFT_BROW, MOUTH, RIGHT_IRIS, LEFT_IRIS)),
)
